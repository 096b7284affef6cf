"""Starting the consumers of a worker process: one for each queue, on one broker."""

from __future__ import annotations

import logging

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from workers import broker as brokers


def test_two_consumers_start_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    broker = StubBroker(middleware=[])
    broker.declare_queue("one")
    broker.declare_queue("two")
    consumers = [dramatiq.Worker(broker, queues={queue}, worker_threads=1) for queue in ("one", "two")]
    with caplog.at_level(logging.WARNING):
        for consumer in consumers:
            brokers.start(consumer)
        # another warning of the broker's is still heard
        broker.logger.warning("something else")
    for consumer in consumers:
        consumer.stop()
    assert [record.getMessage() for record in caplog.records] == ["something else"]
    assert [set(consumer.consumers) & {"one", "two"} for consumer in consumers] == [{"one"}, {"two"}]
