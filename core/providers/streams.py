"""A streamed answer on its way through: what every provider's translator has in common, and OpenAI's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import orjson

from core.providers.assembly import CompletionAssembly
from core.providers.failures import failure_inside, unreadable
from core.providers.lenient import loads
from core.providers.openai_answer import read_usage
from core.providers.sse import KEEP_ALIVE, EventDecoder, EventTooLong, error_event
from core.providers.types import Failure, Success, Usage
from core.states import FailureReason


def wants_usage(params: Mapping[str, Any]) -> bool:
    """Whether the caller of a stream asked for the usage chunk."""
    return bool((params.get("stream_options") or {}).get("include_usage"))


class StreamTranslator(Protocol):
    """Takes a provider's server-sent events and gives OpenAI's, keeping count of what passes.

    For each piece of the body call `feed` and send on what it returns; at the body's end call `finish`, send what it
    returns and, after a Success, `sse.DONE`. When the call breaks off for another reason, `interrupted` says what
    there is by then. Use one instance per answer with status 200 and a content type of text/event-stream.
    """

    #: True once a piece of the answer has come: the time of the first token
    first_token: bool
    #: True once the provider has said that there is no more, or that it failed
    ended: bool

    def feed(self, piece: bytes) -> bytes:
        """Events for the caller, complete ones only; never DONE, never an exception."""

    def finish(self) -> tuple[bytes, Success | Failure]:
        """The last bytes for the caller (an error event after a failure) and the outcome."""

    def interrupted(self, reason: FailureReason, message: str) -> Failure:
        """A Failure with what had come and what it is known to have used."""


class StreamBase(ABC):
    """Decoding, failing and finishing; a provider's translator adds what an event means."""

    def __init__(self, *, include_usage: bool, secret: str | None) -> None:
        self.first_token = False
        self.ended = False
        self._include_usage = include_usage
        self._secret = secret
        self._decoder = EventDecoder()
        self._failure: Failure | None = None

    def feed(self, piece: bytes) -> bytes:
        if self.ended:
            return b""
        try:
            return self._take(self._decoder.feed(piece))
        except EventTooLong:
            self._fail(unreadable(200, "the provider's stream has an event that is too long"))
            return b""

    def finish(self) -> tuple[bytes, Success | Failure]:
        last = b"" if self.ended else self._take(self._decoder.rest())
        if self._failure is None and not self.ended and not self._complete():
            self._failure = self.interrupted(FailureReason.NETWORK, "the provider's stream broke off before its end")
        if self._failure is not None:
            self.ended = True
            return last + error_event(self._failure), self._failure
        if not self.ended:
            self.ended = True
            last += self._close()
        return last, self._outcome()

    def interrupted(self, reason: FailureReason, message: str) -> Failure:
        return Failure(
            reason=reason, message=message, provider_status=200, usage=self._usage(), partial=self._partial()
        )

    def _take(self, events: list[bytes | None]) -> bytes:
        out = []
        for data in events:
            if data is None:
                out.append(KEEP_ALIVE)
                continue
            out.append(self._event(data))
            if self.ended:
                break
        return out[0] if len(out) == 1 else b"".join(out)

    def _decoded(self, data: bytes) -> dict[str, Any] | None:
        """The object in an event's data; None, and the stream has failed, if there is none or it is an error."""
        try:
            found = loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self._fail(unreadable(200, "the provider's stream has an event that is not a JSON object"))
            return None
        if found.get("error"):
            self._decoded_error(found)
            return None
        return found

    def _decoded_error(self, found: Mapping[str, Any]) -> None:
        """The stream has failed with what `found["error"]` says."""
        self._fail(failure_inside(found, 200, secret=self._secret))

    def _fail(self, failure: Failure) -> None:
        self.ended = True
        self._failure = Failure(
            reason=failure.reason,
            message=failure.message,
            provider_status=failure.provider_status,
            provider_code=failure.provider_code,
            provider_param=failure.provider_param,
            usage=self._usage(),
            partial=self._partial(),
        )

    @abstractmethod
    def _event(self, data: bytes) -> bytes: ...

    @abstractmethod
    def _complete(self) -> bool:
        """Whether a stream that ends here lacks nothing."""

    def _close(self) -> bytes:
        """What the caller still needs when a stream ended well but without its last event."""
        return b""

    @abstractmethod
    def _usage(self) -> Usage | None: ...

    @abstractmethod
    def _partial(self) -> dict[str, Any] | None: ...

    @abstractmethod
    def _outcome(self) -> Success: ...


#: As OpenAI writes it in every chunk of a stream whose usage was asked for. It is in no text: its quotes are escaped.
_NULL_USAGE = b',"usage":null'


def _without_null_usage(data: bytes, chunk: dict[str, Any]) -> bytes:
    """A chunk's JSON without its field `usage`, which is null; taken out of `chunk` as well."""
    del chunk["usage"]
    return data.replace(_NULL_USAGE, b"") if data.count(_NULL_USAGE) == 1 else orjson.dumps(chunk)


class OpenAIStream(StreamBase):
    """OpenAI's and compatible servers' streams: events go through as they came (PROVIDERS.md 3.1).

    Usage is always asked for, since it is what a completion costs; `include_usage` says whether the caller sees it: if
    not, no chunk has the field (OpenAI has it in all of them, null but for the last, when it was asked for).
    """

    def __init__(self, *, include_usage: bool, secret: str | None = None) -> None:
        super().__init__(include_usage=include_usage, secret=secret)
        self._assembly = CompletionAssembly()

    def _event(self, data: bytes) -> bytes:
        if data.startswith(b"[DONE]"):
            if self._assembly.started:
                self.ended = True
            else:
                self._fail(unreadable(200, "the provider's stream has no choices"))
            return b""
        chunk = self._decoded(data)
        if chunk is None:
            return b""
        if self._assembly.add(chunk):
            self.first_token = True
        if chunk.get("usage") and not chunk.get("choices"):
            # Usage comes last (PROVIDERS.md 3.1): nobody has to wait for [DONE] once all choices have ended.
            self.ended = self._assembly.finished
            if not self._include_usage:
                return b""
        if not self._include_usage and chunk.get("usage", self) is None:
            data = _without_null_usage(data, chunk)
        if b"\n" in data:
            data = orjson.dumps(chunk)
        return b"data: " + data + b"\n\n"

    def _complete(self) -> bool:
        # Some servers end without [DONE]; then every choice must have said why it ended.
        return self._assembly.finished

    def _usage(self) -> Usage | None:
        return read_usage(self._assembly.usage)

    def _partial(self) -> dict[str, Any] | None:
        return self._assembly.object() if self._assembly.started else None

    def _outcome(self) -> Success:
        usage = self._usage()
        completion = self._assembly.object()
        for choice in completion["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        return Success(
            completion=completion,
            usage=usage or Usage(),
            model=completion["model"],
            usage_reported=usage is not None,
        )
