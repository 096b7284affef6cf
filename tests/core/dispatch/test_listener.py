"""Workers wait in Redis for their doorbells: a message is heard at once, and waiting takes nothing away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import dramatiq
import pytest
import redis

from core.dispatch.doorbell import DoorbellBroker

LONG_MILLISECONDS = 20_000


@pytest.fixture
def broker(redis_url: str) -> Iterator[DoorbellBroker]:
    with redis.Redis.from_url(redis_url) as client:
        yield DoorbellBroker(client=client, middleware=[], namespace="llm")


def enqueue(broker: DoorbellBroker) -> None:
    broker.enqueue(dramatiq.Message(queue_name="q", actor_name="a", args=(), kwargs={}, options={}))


def test_who_waits_hears_a_message_at_once(broker: DoorbellBroker) -> None:
    consumers = [broker.consume("q", prefetch=1, timeout=LONG_MILLISECONDS) for _ in range(3)]
    woken = threading.Barrier(4, timeout=LONG_MILLISECONDS / 2000)
    threads = [threading.Thread(target=lambda c=c: (next(c), woken.wait()), daemon=True) for c in consumers]
    for thread in threads:
        thread.start()
    while broker.client.info("clients")["blocked_clients"] < 3:
        time.sleep(0.01)

    enqueue(broker)

    # Everybody's wait is over, and one of them finds the message that none has taken by waiting.
    woken.wait()
    found = [message for message in (next(consumers[0]),) if message is not None]
    assert len(found) == 1
    assert broker.client.llen("llm:q") == 0


def test_messages_come_in_order_and_no_more_than_may_be_in_hand(broker: DoorbellBroker) -> None:
    for _ in range(3):
        enqueue(broker)
    consumer = broker.consume("q", prefetch=2, timeout=10)

    first, second, third = next(consumer), next(consumer), next(consumer)
    assert (first.actor_name, second.actor_name, third) == ("a", "a", None)

    consumer.ack(first)
    assert next(consumer) is not None


def test_an_empty_queue_is_waited_for_no_longer_than_asked(broker: DoorbellBroker) -> None:
    assert next(broker.consume("q", prefetch=1, timeout=10)) is None


def test_many_messages_at_once_come_in_order(broker: DoorbellBroker) -> None:
    sent = [
        dramatiq.Message(queue_name="q", actor_name="a", args=(number,), kwargs={}, options={}) for number in range(3)
    ]
    # A server that was emptied does not know the broker's script either.
    broker.client.script_flush()

    broker.enqueue_all(sent)

    consumer = broker.consume("q", prefetch=5, timeout=10)
    assert [next(consumer).args for _ in range(3)] == [(0,), (1,), (2,)]
    assert next(consumer) is None
