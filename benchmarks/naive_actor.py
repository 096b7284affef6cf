"""The actor that everybody writes first: one message a row, one blocking call, nothing stored."""

from __future__ import annotations

import os

import dramatiq
import requests
from dramatiq.brokers.redis import RedisBroker

QUEUE = "naive"
HEADERS = {"authorization": "Bearer sk-benchmark-naive", "content-type": "application/json"}

broker = RedisBroker(url=os.environ["NAIVE_REDIS_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def complete(url: str, body: str) -> None:
    answer = requests.post(url, data=body.encode(), headers=HEADERS, timeout=600)
    answer.raise_for_status()
    answer.json()["choices"][0]["message"]["content"]
