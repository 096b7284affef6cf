"""multipart/form-data (RFC 7578) as it comes in: small fields in memory, the file on disk."""

from __future__ import annotations

import re

from simulator.native.blob import Blob
from simulator.prompt import Refusal

#: OpenAI's limit for any file (PROVIDERS.md 5.1)
_MAX_FILE_BYTES = 512 * 1024 * 1024
_MAX_FIELD_BYTES = 64 * 1024
_BOUNDARY = re.compile(rb'boundary=(?:"([^"]+)"|([^;,\s]+))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_FILE_NAME = re.compile(rb'[;\s]filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


class FileUpload:
    """The parts of an upload. Parts may come in any order; the one with a file name is the file."""

    def __init__(self, content_type: bytes) -> None:
        found = _BOUNDARY.search(content_type) if content_type.startswith(b"multipart/form-data") else None
        self._delimiter = b"\r\n--" + (found[1] or found[2]) if found else None
        # As if a line had ended just before: the first delimiter stands at the very beginning.
        self._buffer = b"\r\n"
        self._state = "preamble" if found else "broken"
        self._name = ""
        self.fields: dict[str, str] = {}
        self._field = b""
        self.file: Blob | None = None
        self.file_name = ""
        self._in_file = False
        self.too_large = False

    def feed(self, data: bytes) -> None:
        """The next piece of the body."""
        if self._state in ("broken", "end"):
            return
        self._buffer += data
        while self._step():
            pass

    def check(self) -> None:
        """The body is over. Raises Refusal (400) if it was no whole form, 413 if the file is too large."""
        if self.too_large:
            raise Refusal(413, "The file exceeds the maximum size of 512 MB.")
        if self._state != "end":
            raise Refusal(400, "The body is not a valid multipart/form-data form.")

    def _step(self) -> bool:
        """Deal with one part's head, or with its data as far as it is there; False when more is needed."""
        assert self._delimiter is not None
        if self._state == "head":
            head, blank, rest = self._buffer.partition(b"\r\n\r\n")
            if not blank:
                if len(self._buffer) > _MAX_FIELD_BYTES:
                    self._state = "broken"
                return False
            self._buffer = rest
            self._begin(head)
            return True
        at = self._buffer.find(self._delimiter)
        after = self._buffer[at + len(self._delimiter) :][:2] if at >= 0 else b""
        if at >= 0 and len(after) == 2:
            self._keep(self._buffer[:at])
            self._finish()
            self._buffer = self._buffer[at + len(self._delimiter) + 2 :]
            self._state = {b"--": "end", b"\r\n": "head"}.get(after, "broken")
            return self._state == "head"
        # What may be the beginning of a delimiter waits for the next piece.
        safe = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter))
        self._keep(self._buffer[:safe])
        self._buffer = self._buffer[safe:]
        return False

    def _begin(self, head: bytes) -> None:
        line = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-disposition:")), b"")
        name, file_name = _NAME.search(line), _FILE_NAME.search(line)
        if name is None:
            self._state = "broken"
            return
        self._state = "data"
        self._name = name[1].decode("utf-8", "replace")
        self._field = b""
        self._in_file = file_name is not None
        if file_name is not None:
            self.file_name = file_name[1].decode("utf-8", "replace")
            self.file = Blob()

    def _keep(self, data: bytes) -> None:
        if self._state != "data" or not data:
            return
        if not self._in_file:
            self._field += data[: _MAX_FIELD_BYTES - len(self._field)]
        elif self.file is not None:
            if self.file.size + len(data) > _MAX_FILE_BYTES:
                self.too_large, self.file = True, None
            else:
                self.file.write(data)

    def _finish(self) -> None:
        if self._state != "data":
            return
        if not self._in_file:
            self.fields[self._name] = self._field.decode("utf-8", "replace")
        elif self.file is not None:
            self.file.seal()
