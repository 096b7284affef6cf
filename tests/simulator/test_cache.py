"""The model of prompt caching: off until it is asked for, then by each vendor's own rules, live and in batches."""

from __future__ import annotations

import pytest

from tests.simulator.native import chat_row, create, lines, message_row, results

#: 1,500 tokens of four bytes each
LONG = "".join(f"{n:03} " for n in range(1_000)) + "".join(f"{n:03}|" for n in range(500))


@pytest.fixture(autouse=True)
def caching(simulator):
    simulator.config(cache={"enabled": True})


def cached(answer) -> tuple[int, int]:
    """What an OpenAI answer read and wrote."""
    details = answer.json()["usage"]["prompt_tokens_details"]
    return details["cached_tokens"], details["cache_write_tokens"]


def test_openai_keeps_prefixes_in_steps_of_128_tokens(client, simulator):
    def ask(end: str, **fields):
        return cached(client.chat(LONG + end, model="gpt-6-luna", **fields))

    assert ask("first") == (0, 1_408)
    assert ask("second") == (1_408, 0)
    # The same beginning up to a thousand tokens is too short; another key and another model see nothing.
    assert cached(client.chat(LONG[:4_000] + "#" * 4_000, model="gpt-6-luna"))[0] == 0
    assert ask("third", key="sk-other") == (0, 1_408)
    assert cached(client.chat(LONG, model="gpt-6-sol")) == (0, 1_408)


def test_openai_reads_as_far_as_prompts_agree(client):
    client.chat(LONG, model="gpt-6-luna")

    assert cached(client.chat(LONG[:4_700] + "#" * 1_300, model="gpt-6-luna")) == (1_152, 256)


def test_older_models_write_for_nothing(client):
    assert cached(client.chat(LONG, model="gpt-5.4")) == (0, 0)
    assert cached(client.chat(LONG, model="gpt-5.4")) == (1_408, 0)


def test_openai_forgets_in_time(client, simulator):
    client.chat(LONG, model="gpt-6-luna")
    simulator.advance(1_801)

    assert cached(client.chat(LONG, model="gpt-6-luna")) == (0, 1_408)


def test_it_is_off_by_itself(client, simulator):
    simulator.config(cache={})

    for _ in range(2):
        assert cached(client.chat(LONG, model="gpt-6-luna")) == (0, 0)


def marked(ttl: str = "5m", text: str = LONG):
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}]


def usage(answer) -> tuple[int, int, int, int]:
    """Read, written for five minutes, written for an hour, and paid in full."""
    used = answer.json()["usage"]
    made = used["cache_creation"]
    assert made["ephemeral_5m_input_tokens"] + made["ephemeral_1h_input_tokens"] == used["cache_creation_input_tokens"]
    return (
        used["cache_read_input_tokens"],
        made["ephemeral_5m_input_tokens"],
        made["ephemeral_1h_input_tokens"],
        used["input_tokens"],
    )


def test_anthropic_keeps_what_is_marked(client):
    assert usage(client.message("four", system=marked())) == (0, 1_500, 0, 1)
    assert usage(client.message("more", system=marked())) == (1_500, 0, 0, 1)
    assert usage(client.message("more", system=LONG)) == (0, 0, 0, 1_501)
    assert usage(client.message("more", system=marked(text="#" + LONG[1:]))) == (0, 1_500, 0, 1)


def test_anthropic_needs_each_models_minimum(client):
    for _ in range(2):
        assert usage(client.message("four", system=marked(), model="claude-haiku-4-5")) == (0, 0, 0, 1_501)


def test_anthropic_keeps_for_five_minutes_or_an_hour(client, simulator):
    client.message("four", system=marked())
    assert usage(client.message("four", key="b", system=marked("1h"))) == (0, 0, 1_500, 1)
    simulator.advance(301)

    assert usage(client.message("four", key="b", system=marked("1h"))) == (1_500, 0, 0, 1)
    assert usage(client.message("four", system=marked())) == (0, 1_500, 0, 1)


def test_anthropic_goes_on_from_an_earlier_mark(client):
    client.message("four", system=marked("1h"))
    more = marked(text="x" * 400)

    answer = client.session.post(
        f"{client.url}/v1/messages",
        json={
            "model": "claude-sonnet-4-5",
            "max_tokens": 10,
            "system": marked("1h"),
            "messages": [{"role": "user", "content": [*more, {"type": "text", "text": "four"}]}],
        },
        headers={"x-api-key": "sk-ant-test", "anthropic-version": "2023-06-01"},
        timeout=10,
    )

    assert usage(answer) == (1_500, 100, 0, 1)


def test_batches_hit_in_the_order_of_their_rows(openai_sdk, anthropic_sdk, simulator):
    batch = create(openai_sdk, [chat_row(name, text=f"{LONG}{name}") for name in "abc"])
    messages = anthropic_sdk.messages.batches.create(
        requests=[message_row(name, model="claude-sonnet-4-5", system=marked("1h")) for name in "abc"]
    )
    simulator.advance(0)

    batch = openai_sdk.batches.retrieve(batch.id)
    assert batch.usage.input_tokens_details.cached_tokens == 2 * 1_408
    read = {
        line["custom_id"]: line["response"]["body"]["usage"]["prompt_tokens_details"]["cached_tokens"]
        for line in lines(openai_sdk, batch.output_file_id)
    }
    assert read == {"a": 0, "b": 1_408, "c": 1_408}
    used = {name: result.message.usage for name, result in results(anthropic_sdk, messages.id).items()}
    assert [used[name].cache_read_input_tokens for name in "abc"] == [0, 1_500, 1_500]
    assert used["a"].cache_creation.ephemeral_1h_input_tokens == 1_500
