"""What the `openai` package makes of our errors: its exceptions, and when it tries again by itself."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from launcher.client import Client
from launcher.house import House

MODELS = ("gpt-4o-mini", "claude-haiku-4-5")
either_vendor = pytest.mark.parametrize("model", MODELS)
HELLO: list[Any] = [{"role": "user", "content": "hello nonce-errors"}]


@pytest.mark.parametrize("token", ["", "wrong", "sk-0123456789abcdef0123456789abcdef"])
def test_a_wrong_token(caller: Client, token: str) -> None:
    client = openai.OpenAI(base_url=f"{caller.url}/v1", api_key=token or "x", max_retries=0)

    for ask in (client.models.list, client.files.list, client.batches.list):
        with pytest.raises(openai.AuthenticationError) as caught:
            ask()
        assert caught.value.code == "invalid_api_key"
        assert caught.value.request_id


def test_a_wrong_request_names_the_field(patient: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        patient.chat.completions.create(model="gpt-4o-mini", messages=HELLO, temperature=7)

    assert caught.value.param == "temperature"
    assert caught.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError) as caught:
        patient.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "nobody", "content": "x"}])  # type: ignore[list-item, misc]
    assert caught.value.param is not None
    assert caught.value.param.startswith("messages[0]")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_nobody_serves(patient: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        patient.chat.completions.create(model="no-such-model", messages=HELLO, stream=stream)

    assert caught.value.code == "model_not_found"
    assert "Configured providers" in caught.value.message


@either_vendor
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("400", openai.BadRequestError),
        ("404", openai.NotFoundError),
        ("context_length", openai.BadRequestError),
        ("500", openai.InternalServerError),
    ],
)
def test_errors_of_the_provider(
    house: House, patient: openai.OpenAI, model: str, fault: str, error: type[openai.APIStatusError]
) -> None:
    house.simulator.config(faults=[{"kind": fault}])

    with pytest.raises(error) as caught:
        patient.chat.completions.create(model=model, messages=HELLO)
    with pytest.raises(error):
        patient.chat.completions.create(model=model, messages=HELLO, stream=True)

    assert caught.value.body
    assert caught.value.request_id


@either_vendor
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["429", "500", "503"])
def test_the_package_tries_again_and_succeeds(
    house: House, client: openai.OpenAI, model: str, fault: str, stream: bool
) -> None:
    # Three calls are the service's own; the fourth is made for the package's second try.
    house.simulator.config(faults=[{"kind": fault, "count": 3, "retry_after": 0.1, "retry_after_ms": 100}])

    answer = client.chat.completions.create(model=model, messages=HELLO, stream=stream)

    if isinstance(answer, openai.Stream):
        assert list(answer)
    else:
        assert answer.choices[0].message.content
    assert house.simulator.ledger()["calls"] == 4


@pytest.mark.parametrize("stream", [False, True])
def test_openais_own_refusal_keeps_its_field_and_its_code(house: House, patient: openai.OpenAI, stream: bool) -> None:
    # What this service does not judge: whether the named tool is there, a schema that OpenAI does not take
    named: Any = {"type": "function", "function": {"name": "missing"}}
    tools: Any = [{"type": "function", "function": {"name": "here"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        patient.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, tools=tools, tool_choice=named, stream=stream
        )
    assert (caught.value.param, caught.value.code) == ("tool_choice", None)

    house.simulator.config(faults=[{"kind": "400", "code": "invalid_json_schema"}])
    with pytest.raises(openai.BadRequestError) as caught:
        patient.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=stream)
    assert caught.value.code == "invalid_json_schema"


@either_vendor
@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("402", openai.RateLimitError, "insufficient_quota"),
        ("403", openai.PermissionDeniedError, "permission_denied"),
        ("422", openai.BadRequestError, None),
        ("context_length", openai.BadRequestError, "context_length_exceeded"),
        ("quota", openai.RateLimitError, "insufficient_quota"),
    ],
)
def test_what_a_provider_refuses_for_good(
    house: House, client: openai.OpenAI, model: str, kind: str, error: type[openai.APIStatusError], code: str | None
) -> None:
    house.simulator.config(faults=[{"kind": kind}])

    # The package tries again what may pass; this it is told once.
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model, messages=HELLO)

    assert caught.value.code == code
    assert house.simulator.ledger()["calls"] == 1


@either_vendor
def test_a_body_that_is_too_large_for_the_provider(house: House, patient: openai.OpenAI, model: str) -> None:
    house.simulator.config(faults=[{"kind": "413"}])

    with pytest.raises(openai.APIStatusError) as caught:
        patient.chat.completions.create(model=model, messages=HELLO)

    assert (caught.value.status_code, caught.value.code) == (413, None)


def test_exhausted_credit_is_not_tried_again(house: House, client: openai.OpenAI) -> None:
    house.simulator.config(faults=[{"kind": "quota"}])

    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)

    assert caught.value.code == "insufficient_quota"
    assert house.simulator.ledger()["calls"] == 1


def test_a_limit_of_the_connection_is_a_429_with_hints(house: House, caller: Client, patient: openai.OpenAI) -> None:
    found = next(each for each in caller.get("/v1/providers").json()["data"] if each["providerType"] == "openai")
    caller.patch(f"/v1/providers/{found['id']}", {"limits": {"requestsPerMinute": 1}})
    hasty = patient.with_options(timeout=1.0)

    def ask_until_refused() -> None:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            hasty.chat.completions.create(model="gpt-4o-mini", messages=HELLO)

    with pytest.raises(openai.RateLimitError) as caught:
        ask_until_refused()

    headers = caught.value.response.headers
    assert int(headers["retry-after"]) >= 1
    assert int(headers["retry-after-ms"]) >= 1
    assert headers["x-should-retry"] == "true"


@either_vendor
def test_a_time_out_of_the_package_ends_the_call(house: House, caller: Client, model: str) -> None:
    house.simulator.config(latency=30)
    client = openai.OpenAI(base_url=f"{caller.url}/v1", api_key=caller.token, timeout=0.5, max_retries=1)

    with pytest.raises((openai.APITimeoutError, openai.InternalServerError)):
        client.chat.completions.create(model=model, messages=HELLO)

    house.simulator.wait_for(lambda ledger: ledger["calls"] == 2 and ledger["in_flight"] == 0)


def test_things_that_do_not_exist(patient: openai.OpenAI) -> None:
    for ask in (
        lambda: patient.batches.retrieve("batch_00000000000000000000000000000000"),
        lambda: patient.batches.retrieve("batch_nonsense"),
        lambda: patient.files.retrieve("file-00000000000000000000000000000000-output"),
        lambda: patient.files.delete("file-00000000000000000000000000000000"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert caught.value.type == "invalid_request_error"


def test_headers_of_the_vendor(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=HELLO)

    assert raw.headers["openai-version"] == "2020-10-01"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["x-request-id"] == raw.parse()._request_id
