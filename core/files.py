"""Uploaded files: taken in and given back in chunks, so that the largest is never held in memory."""

# ruff: noqa: S608 (statements are put together from constants only)

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core import db
from core.errors import FieldError, InvalidInput, NotFound, TooLarge
from core.ids import new_id
from core.principal import Principal

#: OpenAI's limit for a file, in bytes (PROVIDERS.md 5.1)
MAX_FILE_BYTES = 512 << 20
#: a row of `file_chunk`, and the most of a file that a transfer holds
CHUNK_BYTES = 1 << 20
#: files for batches are removed after this, as at OpenAI, unless the upload says otherwise
BATCH_FILE_SECONDS = 30 * 86400
#: bounds of `expires_after`, in seconds
MIN_EXPIRES_SECONDS, MAX_EXPIRES_SECONDS = 3600, 30 * 86400
PURPOSES = frozenset({"assistants", "batch", "fine-tune", "vision", "user_data", "evals"})
#: an upload that has not ended after this has been given up
_UPLOAD_HOURS = 24
_FORGET_AT_ONCE = 10
_MAX_FILENAME = 512

_ID = re.compile(r"file-([0-9a-f]{32})\Z")


@dataclass(frozen=True, slots=True)
class FileInfo:
    """An uploaded file, without its bytes."""

    id: UUID
    filename: str
    purpose: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime | None


def public_id(file_id: UUID) -> str:
    """`file-...`, as callers see it."""
    return f"file-{file_id.hex}"


def parse_id(text: str) -> UUID:
    """The id in `file-...`. Raises NotFound."""
    found = _ID.match(text)
    if found is None:
        raise no_such_file(text)
    return UUID(hex=found[1])


def no_such_file(text: str) -> NotFound:
    return NotFound(f"No such File object: {text[:100]}")


class Upload:
    """A file on its way in: `write` its bytes, then `finish`; or `abandon`. Nobody sees it before `finish`."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal
        self._held = bytearray()
        self._chunks = 0
        self.id = new_id()
        self.size_bytes = 0
        owner = (principal.tenant_id, principal.project_id)
        with db.connection(principal.tenant_id) as connection:
            connection.execute("INSERT INTO file (id, tenant_id, project_id) VALUES (%s, %s, %s)", (self.id, *owner))

    def write(self, data: bytes) -> None:
        """More of the file. Raises TooLarge."""
        self.size_bytes += len(data)
        if self.size_bytes > MAX_FILE_BYTES:
            raise TooLarge(f"A file has at most {MAX_FILE_BYTES:,} bytes.")
        self._held += data
        while len(self._held) >= CHUNK_BYTES:
            self._store(bytes(self._held[:CHUNK_BYTES]))
            del self._held[:CHUNK_BYTES]

    def finish(self, *, filename: str, purpose: str, expires_after_seconds: int | None = None) -> FileInfo:
        """The file is there. Raises InvalidInput."""
        wrong = []
        if purpose not in PURPOSES:
            wrong.append(FieldError("/purpose", "must be one of " + ", ".join(sorted(PURPOSES))))
        if not self.size_bytes:
            wrong.append(FieldError("/file", "is empty"))
        seconds = expires_after_seconds
        if seconds is not None and not MIN_EXPIRES_SECONDS <= seconds <= MAX_EXPIRES_SECONDS:
            message = f"must be from {MIN_EXPIRES_SECONDS} to {MAX_EXPIRES_SECONDS}"
            wrong.append(FieldError("/expires_after/seconds", message))
        if wrong:
            raise InvalidInput(wrong)
        if self._held:
            self._store(bytes(self._held))
            self._held.clear()
        if seconds is None and purpose == "batch":
            seconds = BATCH_FILE_SECONDS
        name = filename.replace("\0", "")[:_MAX_FILENAME] or "file"
        with db.connection(self._principal.tenant_id) as connection:
            row = connection.execute(
                "UPDATE file SET filename = %s, purpose = %s, size_bytes = %s,"
                f" expires_at = created_at + make_interval(secs => %s) WHERE id = %s RETURNING {_COLUMNS}",
                (name, purpose, self.size_bytes, seconds, self.id),
            ).fetchone()
        assert row is not None
        return FileInfo(**row)

    def abandon(self) -> None:
        """Forget what was written so far."""
        with db.connection(self._principal.tenant_id) as connection:
            connection.execute("DELETE FROM file WHERE id = %s AND size_bytes IS NULL", (self.id,))

    def _store(self, data: bytes) -> None:
        # A transaction a chunk: a slow sender must not hold one open.
        with db.connection(self._principal.tenant_id) as connection:
            connection.execute(
                "INSERT INTO file_chunk (file_id, n, tenant_id, data) VALUES (%s, %s, %s, %b)",
                (self.id, self._chunks, self._principal.tenant_id, data),
            )
        self._chunks += 1


def get(principal: Principal, file_id: UUID) -> FileInfo:
    """One file. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM file WHERE id = %s AND {_VISIBLE}",
            (file_id, principal.tenant_id, principal.project_id),
        ).fetchone()
    if row is None:
        raise no_such_file(public_id(file_id))
    return FileInfo(**row)


def page(
    principal: Principal,
    *,
    purpose: str | None = None,
    limit: int = 10_000,
    newest_first: bool = True,
    after: UUID | None = None,
) -> tuple[list[FileInfo], bool]:
    """Files of the project in the order of their making, and whether there are more behind them.

    Parameters
    ----------
    after : the file that the page before ended with.
    """
    sql = f"SELECT {_COLUMNS} FROM file WHERE {_VISIBLE}"
    values: list[object] = [principal.tenant_id, principal.project_id]
    if purpose is not None:
        sql += " AND purpose = %s"
        values.append(purpose)
    if after is not None:
        sql += " AND id < %s" if newest_first else " AND id > %s"
        values.append(after)
    sql += f" ORDER BY id {'DESC' if newest_first else ''} LIMIT %s"
    with db.connection(principal.tenant_id) as connection:
        rows = connection.execute(sql, [*values, limit + 1]).fetchall()
    return [FileInfo(**row) for row in rows[:limit]], len(rows) > limit


def content(principal: Principal, file_id: UUID) -> Iterator[bytes]:
    """The bytes of a file, a chunk at a time. Raises NotFound before the first; a file deleted meanwhile ends early."""
    get(principal, file_id)
    return _chunks(principal, file_id)


def _chunks(principal: Principal, file_id: UUID) -> Iterator[bytes]:
    n = 0
    while True:
        with db.connection(principal.tenant_id) as connection:
            cursor = connection.cursor(binary=True)
            row = cursor.execute(
                "SELECT data FROM file_chunk WHERE file_id = %s AND n = %s AND tenant_id = %s",
                (file_id, n, principal.tenant_id),
            ).fetchone()
        if row is None:
            return
        yield bytes(row["data"])
        n += 1


def delete(principal: Principal, file_id: UUID) -> None:
    """Remove a file. A batch that was made of it does not need it. Raises NotFound."""
    with db.connection(principal.tenant_id) as connection:
        row = connection.execute(
            f"DELETE FROM file WHERE id = %s AND {_VISIBLE} RETURNING id",
            (file_id, principal.tenant_id, principal.project_id),
        ).fetchone()
    if row is None:
        raise no_such_file(public_id(file_id))


def forget_old(connection: db.RawConnection) -> bool:
    """Remove some of the files that have expired and of the uploads that were given up; True if there may be more.

    The platform's housekeeping, over all tenants; few at once, since each may have hundreds of chunks.
    """
    deleted = connection.execute(
        "DELETE FROM file WHERE id IN (SELECT id FROM file WHERE expires_at < now()"
        " OR (size_bytes IS NULL AND created_at < now() - make_interval(hours => %s)) LIMIT %s)",
        (_UPLOAD_HOURS, _FORGET_AT_ONCE),
    )
    return deleted.rowcount == _FORGET_AT_ONCE


_COLUMNS = "id, filename, purpose, size_bytes, created_at, expires_at"
_VISIBLE = (
    "tenant_id = %s AND project_id = %s AND size_bytes IS NOT NULL AND (expires_at IS NULL OR expires_at > now())"
)
