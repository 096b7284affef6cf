"""Bodies decompressed while they arrive, never beyond the bytes that the caller accepts: no gzip bomb fills memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from core.egress.errors import BadAnswer, TooMuchData

#: The most that one step of decompression gives, in bytes.
STEP_BYTES = 64 * 1024


def decoded(chunks: Iterator[bytes], coding: str | None, max_bytes: int) -> Iterator[bytes]:
    """The body's own bytes from its chunks, at most `max_bytes` of them.

    Raises
    ------
    TooMuchData
        There are more.
    BadAnswer
        The coding is not identity, gzip or deflate, or the data is not in it.
    """
    coding = (coding or "identity").strip().lower()
    if coding in ("", "identity"):
        return _capped(chunks, max_bytes)
    if coding in ("gzip", "x-gzip", "deflate"):
        return _capped(_inflated(chunks), max_bytes)
    raise BadAnswer("The answer is compressed in a way that was not asked for.")


def _capped(chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
    left = max_bytes
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise TooMuchData(f"The answer is larger than {max_bytes} bytes.")
        yield chunk


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    # 32 + MAX_WBITS: the gzip and the zlib form, told apart by their first bytes.
    stream = zlib.decompressobj(32 + zlib.MAX_WBITS)
    begun = False
    try:
        for chunk in chunks:
            begun = True
            data = chunk
            while data:
                if stream.eof:
                    stream = zlib.decompressobj(32 + zlib.MAX_WBITS)
                part = stream.decompress(data, STEP_BYTES)
                data = stream.unused_data if stream.eof else stream.unconsumed_tail
                if part:
                    yield part
            # What a full step left inside the decompressor comes out without more input.
            while not stream.eof and (part := stream.decompress(b"", STEP_BYTES)):
                yield part
    except zlib.error:
        raise BadAnswer("The answer's compressed data is damaged.") from None
    if begun and not stream.eof:
        raise BadAnswer("The answer's compressed data is incomplete.")
