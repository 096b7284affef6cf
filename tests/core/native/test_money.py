"""What shards reserve: within max_cost_usd and the project's budgets, whatever else spends at the same moment."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core import db
from core.batches import ingest
from core.batches.options import BatchOptions
from core.dispatch import claim
from core.native import handback
from core.states import Processing
from tests.core.dispatch.world import PROMPT, batch_row, execute, leases
from tests.core.native.fake import Provider, stand_in
from tests.core.native.world import NativeWorld, all_shards

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def world() -> NativeWorld:
    return NativeWorld()


def test_lanes_of_one_batch_share_its_limit(world: NativeWorld) -> None:
    # given: a limit with room for the rows of one model, and rows for two
    models = ("gpt-4o-mini", "gpt-4.1-mini")
    rows = [
        {"custom_id": f"{model}-{n}", "model": model, "messages": PROMPT, "max_tokens": 100}
        for model in models
        for n in range(10)
    ]
    limit = Decimal("0.0005")
    batch_id = ingest.submit(world.principal, rows, BatchOptions(processing=Processing.NATIVE, max_cost_usd=limit))
    # when
    world.gather()
    # then
    assert 0 < batch_row(batch_id)["reserved_usd"] <= limit
    assert sum(shard["reserved_usd"] for shard in all_shards()) == batch_row(batch_id)["reserved_usd"]


def test_shards_do_not_get_smaller_and_smaller_under_a_tight_limit(
    world: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a limit that holds six of ten rows
    provider = Provider()
    stand_in(monkeypatch, provider)
    batch_id = world.submit_native(10, max_cost_usd=Decimal(1))
    world.gather()
    execute(
        "UPDATE batch SET max_cost_usd = reserved_usd * 0.65, reserved_usd = 0, dispatched = 0 WHERE id = %s",
        (batch_id,),
    )
    execute("DELETE FROM native_shard")
    execute("UPDATE lane SET next_n = 0")
    world.gather()
    assert [shard["rows"] for shard in all_shards()] == [6]
    # when: there is room for another row or two
    execute("UPDATE batch SET max_cost_usd = max_cost_usd * 1.2 WHERE id = %s", (batch_id,))
    world.gather()
    # then: the next shard waits for the rest of it
    assert len(all_shards()) == 1
    world.step()
    (made,) = provider.batches.values()
    provider.end(made)
    world.step()
    world.gather()
    assert [shard["rows"] for shard in all_shards()] == [6, 4]


def test_rows_are_not_claimed_for_money_that_a_shard_has_reserved_meanwhile(world: NativeWorld) -> None:
    batch_id = world.submit(4, max_cost_usd=Decimal(1))
    with db.connection() as connection:
        (lane,) = claim.open_lanes(connection, claim.flight(connection))
        tokens = claim.estimates(connection, lane, 0, 4)
    execute("UPDATE batch SET reserved_usd = 0.5 WHERE id = %s", (batch_id,))
    with db.connection() as connection:
        assert claim.claim_fresh(connection, lane, tokens, [Decimal("0.2")] * 4) == []
        assert len(claim.claim_fresh(connection, lane, tokens[:2], [Decimal("0.2")] * 2)) == 2


def test_rows_that_come_back_wait_for_money_that_other_shards_hold(
    world: NativeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: two shards under a limit that just holds them, one of them back without an answer
    provider = Provider()
    stand_in(monkeypatch, provider)
    batch_id = world.submit_native(4, max_cost_usd=Decimal(1))
    world.gather()
    execute("UPDATE batch SET processing = 'auto', max_cost_usd = reserved_usd WHERE id = %s", (batch_id,))
    world.step()
    execute(
        "INSERT INTO native_shard (id, batch_id, lane_id, tenant_id, project_id, connection_id, provider, model,"
        " created_at, first_n, rows, remaining, state, remote_id, reserved_usd)"
        " SELECT gen_random_uuid(), batch_id, lane_id, tenant_id, project_id, connection_id, provider, model,"
        " created_at, 100, 1, 1, 'sent', 'other', 0 FROM native_shard"
    )
    (made,) = provider.batches.values()
    provider.end(made, share=0)
    execute("UPDATE native_shard SET lease_expires_at = 'infinity' WHERE first_n = 100")
    world.step()
    # when: real time costs twice what the shard holds
    assert handback.hand_back() == 2
    assert handback.hand_back() == 0
    # then: the others wait, and the batch is not paused while some of its money may come back
    assert len(leases()) == 2
    assert batch_row(batch_id)["status"] == "processing"
    assert batch_row(batch_id)["reserved_usd"] <= batch_row(batch_id)["max_cost_usd"]
    # when: nothing of the batch is under way any more
    execute("DELETE FROM native_shard WHERE first_n = 100")
    execute("DELETE FROM lease")
    handback.hand_back()
    assert batch_row(batch_id)["status"] == "paused"
