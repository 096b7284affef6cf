"""OpenAI's files: what was uploaded, and what batches wrote (PROVIDERS.md 5.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from simulator.native.blob import Blob
from simulator.native.multipart import FileUpload
from simulator.prompt import Refusal

if TYPE_CHECKING:
    from simulator.native.state import Native

_PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
_LIFE_SECONDS = 30 * 86_400
_SHORTEST_SECONDS, _LONGEST_SECONDS = 3_600, 2_592_000


@dataclass(slots=True)
class File:
    """One file of one key. Times in seconds of the native clock."""

    id: str
    key: str
    name: str
    purpose: str
    blob: Blob
    created: float
    expires: float | None

    def shown(self) -> dict[str, Any]:
        """The file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.blob.size,
            "created_at": int(self.created),
            "expires_at": None if self.expires is None else int(self.expires),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class Files:
    """Every key's files."""

    def __init__(self, native: Native) -> None:
        self._native = native
        self._files: dict[str, File] = {}

    def upload(self, key: str, upload: FileUpload) -> File:
        """Keep what was uploaded. Raises Refusal (400, 413)."""
        upload.check()
        purpose = upload.fields.get("purpose")
        if purpose is None:
            raise _missing("purpose")
        if purpose not in _PURPOSES:
            raise Refusal(400, f"'{purpose}' is not one of {list(_PURPOSES)} - 'purpose'", param="purpose")
        if upload.file is None:
            raise _missing("file")
        most = self._native.settings.openai.max_bytes
        if purpose == "batch" and upload.file.size > most:
            raise Refusal(413, f"The file is too large: a batch's input has at most {most} bytes.")
        life: float | None = _LIFE_SECONDS if purpose == "batch" else None
        if any(name.startswith("expires_after") for name in upload.fields):
            life = lifetime(
                {name: upload.fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}, "expires_after"
            )
        return self.add(key, upload.file_name, purpose, upload.file, life)

    def add(self, key: str, name: str, purpose: str, blob: Blob, life_seconds: float | None) -> File:
        """A new file; `life_seconds` None: for ever."""
        now = self._native.now()
        expires = None if life_seconds is None else now + life_seconds
        file = File(f"file-{self._native.simulation.number()}", key, name, purpose, blob, now, expires)
        self._files[file.id] = file
        counted = "files_written" if purpose == "batch_output" else "files_uploaded"
        self._native.simulation.ledger.native[counted] += 1
        return file

    def get(self, key: str, file_id: str) -> File:
        """Raises Refusal (404): not there, not this key's, deleted or expired."""
        file = self._files.get(file_id)
        if file is None or file.key != key or self._expired(file):
            raise Refusal(404, f"No such File object: {file_id}", param="id")
        return file

    def delete(self, key: str, file_id: str) -> dict[str, Any]:
        """Raises Refusal (404)."""
        del self._files[self.get(key, file_id).id]
        self._native.simulation.ledger.native["files_deleted"] += 1
        return {"id": file_id, "object": "file", "deleted": True}

    def listed(self, key: str, query: str) -> dict[str, Any]:
        """The list that `purpose&limit&order&after` asks for. Raises Refusal (400)."""
        given = parse_qs(query)
        purpose = given.get("purpose", [None])[0]
        files = [file for file in self.all() if file.key == key and purpose in (None, file.purpose)]
        if given.get("order", ["desc"])[0] == "desc":
            files.reverse()
        return page(files, given, most=10_000, default=10_000)

    def all(self) -> list[File]:
        """Every file that has not expired, oldest first."""
        for file in list(self._files.values()):
            if self._expired(file):
                del self._files[file.id]
        return list(self._files.values())

    def _expired(self, file: File) -> bool:
        return file.expires is not None and file.expires <= self._native.now()


def page(things: list[Any], given: dict[str, list[str]], *, most: int, default: int) -> dict[str, Any]:
    """OpenAI's list object from `limit` and `after`. Raises Refusal (400)."""
    try:
        limit = int(given.get("limit", [str(default)])[0])
    except ValueError:
        limit = 0
    if not 1 <= limit <= most:
        raise Refusal(400, f"Invalid 'limit': expected a value between 1 and {most}.", param="limit")
    first = 0
    after = given.get("after", [None])[0]
    if after is not None:
        ids = [thing.id for thing in things]
        if after not in ids:
            raise Refusal(400, f"Invalid 'after': no such object: {after}", param="after")
        first = ids.index(after) + 1
    data = [thing.shown() for thing in things[first : first + limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": first + limit < len(things),
    }


def lifetime(given: Any, name: str) -> int:
    """The seconds of an expiry policy {anchor, seconds}. Raises Refusal (400)."""
    if not isinstance(given, dict) or given.get("anchor") != "created_at":
        raise Refusal(400, f"Invalid '{name}.anchor': only 'created_at' is supported.", param=f"{name}.anchor")
    try:
        seconds = int(given.get("seconds") or 0)
    except (TypeError, ValueError):
        seconds = 0
    if not _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        message = f"Invalid '{name}.seconds': expected from {_SHORTEST_SECONDS} to {_LONGEST_SECONDS}."
        raise Refusal(400, message, param=f"{name}.seconds")
    return seconds


def _missing(name: str) -> Refusal:
    return Refusal(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
