"""Rows of about a kilobyte, each with a nonce of its own, made fast enough never to be what is measured."""

from __future__ import annotations

import random
from collections.abc import Iterator

MODEL = "gpt-4o-mini"
#: Bytes of one row as a line of NDJSON, a little more or less.
ROW_BYTES = 1024
#: Rows in one piece of a streamed body: some 64 KiB.
_ROWS_PER_PIECE = 64
_WORDS = (
    "the report says that every order of last month was shipped within two days although some customers wrote about "
    "damaged parcels which the carrier had left in the rain please sort these letters by subject and name the product "
    "its price the reason for the complaint and whether money has to be returned answer in one short sentence"
)


def _prose(seed: int, size: int) -> str:
    """Plain English of so many characters: what a row holds decides what its validation and token estimate cost."""
    draw = random.Random(seed)
    words, text = _WORDS.split(), ""
    while len(text) < size:
        text += draw.choice(words) + " "
    return text[:size]


_ENVELOPE = len(
    '{"custom_id":"row-1234567","model":"","max_tokens":32,"messages":[{"role":"user","content":"nonce- "}]}'
)
_TEXTS = [_prose(seed, ROW_BYTES - _ENVELOPE - len(MODEL) - 20) for seed in range(61)]


def body(nonce: str, n: int) -> str:
    """The parameters of one completion as JSON text."""
    return (
        f'"model":"{MODEL}","max_tokens":32,"messages":[{{"role":"user","content":"nonce-{nonce} {_TEXTS[n % 61]}"}}]'
    )


def lines(count: int, label: str) -> Iterator[bytes]:
    """An NDJSON body of `count` rows in pieces; `label` makes the nonces differ from those of other batches."""
    for start in range(0, count, _ROWS_PER_PIECE):
        yield "".join(
            f'{{"custom_id":"row-{n}",{body(f"{label}-{n}", n)}}}\n'
            for n in range(start, min(start + _ROWS_PER_PIECE, count))
        ).encode()


def call(nonce: str, n: int) -> bytes:
    """The body of one call, to a provider or to POST /v1/completions."""
    return f"{{{body(nonce, n)}}}".encode()
