"""Which rows are put together and marked for a provider's prompt cache."""

from __future__ import annotations

from typing import Any

from core.native.caching import Plan, marked

LONG = "Answer as a librarian would, with the shelf and the year. " * 400
OPENAI, CLAUDE = ("openai", "gpt-4.1-mini"), ("anthropic", "claude-haiku-4-5")


def row(question: str, system: str = LONG, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": question}], **more}


def seen(target: tuple[str, str], rows: list[dict[str, Any]]) -> Plan:
    plan = Plan(*target)
    for number, params in enumerate(rows):
        plan.see(number, params)
    return plan


def test_rows_that_begin_alike_are_put_together_and_marked_by_beginning() -> None:
    plan = seen(OPENAI, [row(f"{n}", LONG + "AB"[n % 2]) for n in range(6)])
    assert plan.worth_it()
    order, marks = plan.ordered(list(range(6)))
    assert order == [0, 2, 4, 1, 3, 5]
    assert marks.by_row[0] == marks.by_row[2] != marks.by_row[1] == marks.by_row[3]


def test_what_shares_nothing_follows_as_it_was() -> None:
    rows = [row("a"), row("b", "something else"), row("c"), {"messages": [{"role": "user", "content": "alone"}]}]
    order, marks = seen(OPENAI, rows).ordered([0, 1, 2, 3])
    assert order == [0, 2, 1, 3]
    assert set(marks.by_row) == {0, 2}


def test_short_beginnings_are_not_worth_it() -> None:
    assert not seen(OPENAI, [row(f"{n}", "Be brief.") for n in range(100)]).worth_it()


def test_claude_is_marked_only_where_the_reads_pay_for_the_write() -> None:
    # Writing for an hour costs twice the input, reading a tenth of it.
    assert not seen(CLAUDE, [row("a"), row("b")]).worth_it()
    assert seen(CLAUDE, [row(f"{n}") for n in range(4)]).worth_it()
    # OpenAI asks nothing for it.
    assert seen(OPENAI, [row("a"), row("b")]).worth_it()


def test_claude_caches_nothing_below_the_models_least() -> None:
    # Haiku 4.5 caches from 4,096 tokens on, Sonnet 4.5 from 1,024.
    rows = [row(f"{n}", LONG[: len(LONG) // 2]) for n in range(50)]
    assert not seen(("anthropic", "claude-haiku-4-5"), rows).worth_it()
    assert seen(("anthropic", "claude-sonnet-4-5"), rows).worth_it()


def test_rows_whose_caller_set_marks_are_left_alone() -> None:
    own = {"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}
    rows = [row(f"{n}", [own]) for n in range(10)] + [row(f"{n}", prompt_cache_key="mine") for n in range(10)]  # type: ignore[arg-type]
    assert not seen(CLAUDE, rows).worth_it()
    assert not seen(OPENAI, rows).worth_it()


def test_the_mark_for_claude_stands_at_the_end_of_what_is_shared() -> None:
    params = row("a", tools=[{"type": "function", "function": {"name": "look"}}])
    found = marked(params, None)
    (part,) = found["messages"][0]["content"]
    assert part["text"] == LONG
    assert part["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert found["messages"][1] == params["messages"][1]
    # the request that is kept stays as it came
    assert params["messages"][0]["content"] == LONG
    # without leading messages, what is shared are the tools
    alone = marked({**params, "messages": params["messages"][1:]}, None)
    assert alone["tools"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_the_mark_for_openai_is_a_key() -> None:
    assert marked(row("a"), "k") == {**row("a"), "prompt_cache_key": "k"}
