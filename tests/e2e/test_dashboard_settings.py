"""The dashboard's settings and statistics in a real browser: what is changed there is changed in the API."""

from __future__ import annotations

import json

import pytest

from launcher.client import wait_until
from launcher.house import House
from tests.browser import SHOW_SECONDS
from tests.e2e.batches import rows, submit, wait_for
from tests.e2e.dashboard_user import User
from tests.e2e.receiver import Receiver

pytestmark = pytest.mark.e2e

#: The simulator refuses every key with this word in it.
REFUSED = "sk-invalid-key-of-a-user"


def test_a_stopped_provider_is_explained_and_mended_and_its_batch_goes_on(calm_house: House, user: User) -> None:
    # given: a key that the provider refuses, and a batch that needs it
    user.client.post("/v1/providers", {"providerType": "openai", "apiKey": REFUSED})
    batch_id = submit(user.client, rows("stopped", 3, models=["gpt-4o-mini"]))["id"]
    wait_for(user.client, batch_id, lambda batch: batch["status"] == "paused")
    # when, then: the overview and the batch say why and what to do
    user.sign_in()
    user.browser.wait_for("OpenAI refuses the key. Store a new one in Settings.")
    user.go(f"#/batches/{batch_id}")
    user.browser.wait_for(
        "The provider refuses the key. Store a new one in Settings; then the batch goes on by itself."
    )
    # when: it is tried, then replaced
    user.go("#/settings/providers")
    user.browser.wait_for("stopped")
    row = "tbody tr:nth-child(2)"
    assert "OpenAI" in user.browser.run(f"document.querySelector({row!r}).innerText")
    user.browser.click("Test", row)
    user.browser.wait_for("OpenAI does not work: 401")
    user.browser.click("Replace key", row)
    user.browser.type("Key", "sk-of-a-user-that-works", "dialog")
    user.browser.click("Replace", "dialog")
    user.browser.wait_for("The key is replaced.")
    # then: only its end can be seen
    user.browser.wait_for("••••orks")
    assert "sk-of-a-user" not in user.browser.run("document.documentElement.outerHTML")
    user.browser.click("Test", row)
    user.browser.wait_for("OpenAI answered in")
    # and: the batch goes on
    user.go(f"#/batches/{batch_id}")
    user.browser.wait_for("completed")
    assert user.client.get(f"/v1/batch/{batch_id}").json()["request_counts"]["succeeded"] == 3


def test_limits_mappings_budgets_and_the_project_are_set(user: User) -> None:
    user.sign_in("#/settings")
    user.browser.click("Limits", "tbody tr:nth-child(1)")
    user.browser.type("Requests per minute", "500", "dialog")
    user.browser.click("Set", "dialog")
    user.browser.wait_for("Requests per minute: 500")
    assert user.client.get("/v1/providers").json()["data"][0]["limits"]["requestsPerMinute"] == 500

    user.go("#/settings/mappings")
    user.browser.wait_for("There are no mappings.")
    user.browser.type("Alias", "team/fast")
    user.browser.type("Model", "claude-haiku-4-5")
    user.browser.type("Fallbacks", "gpt-4o-mini, gpt-4o")
    user.browser.click("Set the alias")
    user.browser.wait_for("gpt-4o-mini, then gpt-4o")
    mapping = user.client.get("/v1/model-mappings/team/fast").json()
    assert [each["model"] for each in mapping["fallbacks"]] == ["gpt-4o-mini", "gpt-4o"]
    user.browser.click("Delete", "tbody")
    user.browser.click("Delete the alias", "dialog")
    user.browser.wait_for("There are no mappings.")
    assert user.client.get("/v1/model-mappings").json()["data"] == []

    user.go("#/settings/budgets")
    user.browser.type("Limit in US dollars", "12.345678901")
    user.browser.click("Set a budget", "form:first-of-type")
    user.browser.wait_for("$0 of $12.345678901 spent")
    assert user.client.get("/v1/budgets/month").json()["limit_usd"] == "12.345678901"

    user.go("#/settings/project")
    user.browser.type("Logs keep", "metadata_only")
    user.browser.type("Days until", "30")
    user.browser.click("Save")
    user.browser.wait_for("The settings are saved.")
    project = user.client.get("/v1/project").json()
    assert (project["log_bodies"], project["retention_days"]) == ("metadata_only", 30)
    # and: what the API refuses is named in its words
    user.browser.run("document.querySelector('form').noValidate = true")
    user.browser.type("Days until", "99999")
    user.browser.click("Save")
    user.browser.wait_for("/retention_days")


def test_an_endpoint_is_added_tested_rotated_and_its_deliveries_seen(user: User) -> None:
    with Receiver() as receiver:
        user.sign_in("#/settings/webhooks")
        user.browser.type("URL", f"{receiver.url}/events")
        user.browser.click("Add the endpoint")
        user.browser.wait_for("enabled")
        # when
        user.browser.click("Send a test")
        wait_until(lambda: len(receiver.received("/events")) == 1, SHOW_SECONDS)
        # then: the log of deliveries has it, and it can be sent again under its own id
        user.browser.wait_for("webhook.test")
        user.browser.click("Refresh")
        user.browser.wait_for("delivered")
        user.browser.click("Send again")
        wait_until(lambda: len(receiver.received("/events")) == 2, SHOW_SECONDS)
        assert len({found.id for found in receiver.received()}) == 1
        # and: a secret is shown when it is asked for, and goes when it is hidden
        user.browser.click("Show secret")
        endpoint = user.client.get("/v1/webhooks").json()["data"][0]
        secret = user.client.get(f"/v1/webhooks/{endpoint['id']}/secret").json()["secret"]
        user.browser.wait_for(secret)
        user.browser.click("Hide")
        assert secret not in user.browser.text()
        user.browser.click("Rotate secret")
        user.browser.click("Rotate", "dialog")
        user.browser.wait_for("The new secret of")
        assert user.client.get(f"/v1/webhooks/{endpoint['id']}/secret").json()["secret"] != secret


def test_statistics_agree_with_the_api_to_the_last_digit(user: User) -> None:
    # given
    batch_id = submit(user.client, rows("figures", 8))["id"]
    user.client.wait_for_batch(batch_id)
    # when
    user.sign_in("#/stats?days=1&interval=hour&group_by=provider")
    user.browser.wait_for("By provider")
    # then
    found = user.client.get(
        f"/v1/stats/{user.client.tenant_id}/{user.client.project_id}?interval=hour&group_by=provider"
    ).json()
    assert found["totals"]["requests"] == 8
    text = user.browser.text()
    assert f"${found['totals']['cost_usd']}" in text
    for figures in [*found["groups"].values(), *found["by_model"].values()]:
        assert f"${figures['cost_usd']}" in text
    # and: each chart is drawn, and has its figures in a table
    charts = json.loads(
        user.browser.run("""JSON.stringify([...document.querySelectorAll(".chart")].map((chart) => [
            chart.querySelectorAll(".mark").length, Number(chart.querySelector("svg").getAttribute("width")) > 100,
            chart.querySelector("tbody").textContent]))""")
    )
    assert len(charts) == 4
    assert all(marks >= 24 and drawn for marks, drawn, _ in charts)
    assert f"${found['totals']['cost_usd']}" in charts[0][2]
