"""Two tenants at work side by side: neither ever meets anything of the other's (I7)."""

from __future__ import annotations

import pytest

from launcher.client import Client
from launcher.house import House
from tests.e2e.batches import faults_of_results, results, rows, submit, wait_for_end

pytestmark = pytest.mark.e2e


def test_no_tenant_meets_anothers_batches_results_providers_or_nonces(calm_house: House, client: Client) -> None:
    # given: two tenants with batches of the same custom ids at the same time
    other = calm_house.new_client()
    mine = submit(client, rows("mine", 100))["id"]
    theirs = submit(other, rows("theirs", 100))["id"]
    wait_for_end(client, mine)
    wait_for_end(other, theirs)
    # then: each has its own answers
    assert faults_of_results(results(client, mine), "mine", 100) == []
    assert faults_of_results(results(other, theirs), "theirs", 100) == []
    assert "nonce-theirs" not in client.get(f"/v1/batch/{mine}/results").text
    assert [batch["id"] for batch in client.get("/v1/batch").json()["data"]] == [mine]
    # and: what is the other's does not exist, in the words for what never existed
    never = "batch_" + "0" * 32
    for method, path in [
        ("GET", "/v1/batch/{}"),
        ("GET", "/v1/batch/{}/results"),
        ("POST", "/v1/batch/{}/cancel"),
        ("POST", "/v1/batch/{}/pause"),
        ("POST", "/v1/batch/{}/resume"),
        ("POST", "/v1/batch/{}/retry"),
        ("DELETE", "/v1/batch/{}"),
    ]:
        foreign = client._call(method, path.format(theirs))
        unknown = client._call(method, path.format(never))
        assert foreign.status_code == unknown.status_code == 404, path
        same = {"type", "title", "status", "detail"}
        assert {k: foreign.json().get(k) for k in same} == {k: unknown.json().get(k) for k in same}, path
    foreign_provider = other.get("/v1/providers").json()["data"][0]["id"]
    for method in ("GET", "PATCH", "DELETE"):
        body = {"json": {"name": "mine now"}} if method == "PATCH" else {}
        assert client._call(method, f"/v1/providers/{foreign_provider}", **body).status_code == 404
    # and: foreign headers with one's own key are no key at all
    answer = client.get(f"/v1/batch/{theirs}", headers={"x-tenant-id": other.tenant_id})
    assert answer.status_code == 401
    assert len(other.get("/v1/providers").json()["data"]) == 2
