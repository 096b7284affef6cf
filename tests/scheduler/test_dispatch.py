"""A tick of dispatch against a real database and Redis: whose doorbells are rung, and on which queue."""

from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import pytest

from core.dispatch.doorbell import FIRST_QUEUE, QUEUE, make_broker
from core.ids import BLOCK_BITS
from core.settings import settings
from scheduler.dispatch import Dispatcher
from tests.core.dispatch.world import World, leases

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def dispatcher(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dispatcher]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings.cache_clear()
    yield Dispatcher(make_broker())
    settings.cache_clear()


def test_a_tenant_with_few_rows_passes_one_with_many(dispatcher: Dispatcher) -> None:
    # given: a tenant of whose batch as many rows are rung as its new key allows, and nobody starts them
    huge = World()
    huge.submit(300)
    dispatcher.tick()
    rung = len(leases())
    # when: another comes with a few rows
    small = World()
    small.submit(rung // 4)
    dispatcher.tick()
    # then: its rows do not stand behind the others
    lanes = {row["lane_id"]: row["tenant_id"] for row in leases()}
    assert {lanes[lane] for lane in _lanes_on(FIRST_QUEUE)} == {small.principal.tenant_id}
    assert {lanes[lane] for lane in _lanes_on(QUEUE)} == {huge.principal.tenant_id}


def test_a_tenant_alone_stands_in_line(dispatcher: Dispatcher) -> None:
    World().submit(3)
    dispatcher.tick()
    assert len(_lanes_on(QUEUE)) == 1
    assert _lanes_on(FIRST_QUEUE) == set()


def _lanes_on(queue: str) -> set[int]:
    """The lanes of the rows whose doorbells wait on a queue."""
    broker = dramatiq.get_broker()
    messages = broker.client.hvals(f"llm:{queue}.msgs")  # type: ignore[attr-defined]
    return {row[0] >> BLOCK_BITS for message in messages for row in dramatiq.Message.decode(message).args[1]}
