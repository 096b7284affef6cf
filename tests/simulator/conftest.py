"""A simulator of its own for these tests, as configured at its start before each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
import requests
from requests import Response

from simulator.handle import SimulatorHandle


class Client:
    """Calls to both surfaces over kept-alive connections."""

    def __init__(self, simulator: SimulatorHandle) -> None:
        self.url = simulator.url
        self.session = requests.Session()
        self.session.trust_env = False

    def chat(self, text: str = "hello", *, key: str = "sk-test", model: str = "gpt-4o", **fields: Any) -> Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}]} | fields
        headers = {"authorization": f"Bearer {key}"}
        return self.session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=10)

    def message(
        self,
        text: str = "hello",
        *,
        key: str = "sk-ant-test",
        model: str = "claude-sonnet-4-5",
        version: str | None = "2023-06-01",
        **fields: Any,
    ) -> Response:
        body = {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": text}]} | fields
        body = {name: value for name, value in body.items() if value is not None}
        headers = {"x-api-key": key} | ({"anthropic-version": version} if version else {})
        return self.session.post(f"{self.url}/v1/messages", json=body, headers=headers, timeout=10)

    def get(self, path: str, **headers: str) -> Response:
        return self.session.get(self.url + path, headers=headers, timeout=10)


@pytest.fixture(scope="session")
def running() -> Iterator[SimulatorHandle]:
    with SimulatorHandle() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: SimulatorHandle) -> SimulatorHandle:
    running.reset()
    return running


@pytest.fixture
def client(simulator: SimulatorHandle) -> Client:
    return Client(simulator)


@pytest.fixture
def openai_sdk(simulator: SimulatorHandle) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="sk-test", base_url=simulator.openai_url, max_retries=0) as sdk:
        yield sdk


@pytest.fixture
def anthropic_sdk(simulator: SimulatorHandle) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(api_key="sk-ant-test", base_url=simulator.url, max_retries=0) as sdk:
        yield sdk
