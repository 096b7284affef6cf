"""The body that creates an Anthropic batch, taken apart as it comes in: a line per request goes to disk."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import orjson

from simulator.native.blob import Blob
from simulator.prompt import Refusal

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SPACE = re.compile(r"[ \t\r\n]*")
#: one request is a Messages body, which has this limit of its own (PROVIDERS.md 4.3)
_MAX_REQUEST = 32 * 1024 * 1024
_scan = json.JSONDecoder().raw_decode


class RequestsBody:
    """`{"requests": [...]}` of any size. What is wrong with it is said by `check`, when an answer can be given."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self.rows = Blob()
        self.count = 0
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._size = 0
        self._ids: set[str] = set()
        self._refusal: Refusal | None = None
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        #: what is expected next: open, key, colon, value, item, comma (in the list), next (in the object), end
        self._state = "open"
        self._key = ""
        self._seen = False
        self._try_at = 0

    def feed(self, data: bytes) -> None:
        """The next piece of the body."""
        self._size += len(data)
        if self._size > self._max_bytes:
            self._refuse(Refusal(413, "Request exceeds the maximum size"))
        if self._refusal is not None:
            return
        try:
            self._text += self._decode(data)
            # A value that is not complete is tried again when twice as much is there, or long ones would take for ever.
            if len(self._text) >= self._try_at:
                self._advance()
        except (ValueError, TypeError, RecursionError) as error:
            self._refuse(Refusal(400, f"The body is not valid JSON: {error}"))

    def check(self) -> None:
        """The body is over. Raises Refusal (400, 413)."""
        if self._refusal is None:
            try:
                self._text += self._decode(b"", True)
                self._advance()
            except (ValueError, TypeError, RecursionError) as error:
                self._refuse(Refusal(400, f"The body is not valid JSON: {error}"))
        if self._refusal is not None:
            raise self._refusal
        if self._state != "end":
            raise Refusal(400, "The body is not valid JSON: it ends too early")
        if not self._seen:
            raise Refusal(400, "requests: Field required")
        if not self.count:
            raise Refusal(400, "requests: List should have at least 1 item after validation, not 0")
        self.rows.seal()
        self._ids = set()

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = self._refusal or refusal
        self._text = ""
        self.rows = Blob()

    def _advance(self) -> None:
        text, at = self._text, 0
        while self._refusal is None:
            at = _skip(text, at)
            if at >= len(text):
                break
            if self._state in ("key", "value", "item"):
                if self._state == "item" and text[at] == "]" and not self.count:
                    at, self._state = at + 1, "next"
                    continue
                if self._state == "value" and self._key == "requests" and text[at] == "[":
                    at, self._state, self._seen = at + 1, "item", True
                    continue
                try:
                    value, end = _scan(text, at)
                except json.JSONDecodeError:
                    if len(text) - at > _MAX_REQUEST:
                        raise ValueError("a request is too large, or no JSON") from None
                    break
                if end == len(text):
                    # A number might go on.
                    break
                at = end
                self._take(value)
            else:
                self._punctuate(text[at])
                at += 1
        if self._refusal is None:
            self._text = text[at:]
            self._try_at = 2 * len(self._text)

    def _punctuate(self, sign: str) -> None:
        following = {
            ("open", "{"): "key",
            ("colon", ":"): "value",
            ("comma", ","): "item",
            ("comma", "]"): "next",
            ("next", ","): "key",
            ("next", "}"): "end",
        }.get((self._state, sign))
        if following is None:
            raise ValueError(f"unexpected {sign!r}")
        self._state = following

    def _take(self, value: Any) -> None:
        if self._state == "key":
            self._key, self._state = str(value), "colon"
        elif self._state == "value":
            kind = "Input should be a valid list" if self._key == "requests" else "Extra inputs are not permitted"
            self._refuse(Refusal(400, f"{self._key}: {kind}"))
        else:
            self._state = "comma"
            self._row(value)

    def _row(self, row: Any) -> None:
        where = f"requests.{self.count}"
        custom_id = row.get("custom_id") if isinstance(row, dict) else None
        if custom_id is None:
            self._refuse(Refusal(400, f"{where}.custom_id: Field required"))
        elif not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
            message = "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
            self._refuse(Refusal(400, f"{where}.custom_id: {message}"))
        elif custom_id in self._ids:
            self._refuse(Refusal(400, f"{where}.custom_id: Duplicate custom_id '{custom_id}'"))
        elif not isinstance(row.get("params"), dict):
            self._refuse(Refusal(400, f"{where}.params: Field required"))
        elif extra := row.keys() - {"custom_id", "params"}:
            self._refuse(Refusal(400, f"{where}.{min(extra)}: Extra inputs are not permitted"))
        elif self.count >= self._max_rows:
            self._refuse(Refusal(413, f"requests: a batch takes at most {self._max_rows} requests"))
        else:
            self.count += 1
            self._ids.add(custom_id)
            self.rows.write(orjson.dumps(row) + b"\n")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
