"""Uploaded files: whole or not there, in chunks, each project's own; lines of batches read as files."""

from __future__ import annotations

import os
from uuid import uuid4

import pytest

from core import db, file_batches, files, identity
from core.errors import FieldError, InvalidInput, NotFound, TooLarge
from core.file_batches import Part
from core.file_batches.source import RequestLines
from core.files import CHUNK_BYTES, Upload
from core.identity import Principal


@pytest.fixture
def principal(database_url: str) -> Principal:
    return new_principal()


def new_principal() -> Principal:
    tenant = identity.create_tenant("test")
    return Principal(tenant.id, identity.create_project(tenant.id, "test").id, uuid4())


def count(table: str) -> int:
    with db.connection() as connection:
        row = connection.execute(f"SELECT count(*) AS n FROM {table}").fetchone()  # type: ignore[call-overload]
    assert row is not None
    return int(row["n"])


@pytest.mark.parametrize("size", [1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7])
def test_a_file_comes_back_as_it_went_in(principal: Principal, size: int) -> None:
    data = os.urandom(size)
    upload = Upload(principal)
    for at in range(0, size, 300_000):
        upload.write(data[at : at + 300_000])

    made = upload.finish(filename="x", purpose="batch")

    assert made.size_bytes == size
    pieces = list(files.content(principal, made.id))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= CHUNK_BYTES


def test_a_file_is_not_there_before_it_is_whole(principal: Principal) -> None:
    upload = Upload(principal)
    upload.write(b"x" * CHUNK_BYTES)

    with pytest.raises(NotFound):
        files.get(principal, upload.id)
    assert files.page(principal) == ([], False)
    upload.abandon()
    assert (count("file"), count("file_chunk")) == (0, 0)


def test_a_file_over_the_limit_is_refused(principal: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)

    with pytest.raises(TooLarge, match="10 bytes"):
        Upload(principal).write(b"x" * 11)


def test_files_belong_to_one_project(principal: Principal) -> None:
    upload = Upload(principal)
    upload.write(b"x")
    made = upload.finish(filename="x", purpose="batch")
    stranger = new_principal()

    for ask in (files.get, files.delete, files.content):
        with pytest.raises(NotFound):
            ask(stranger, made.id)
    assert files.page(stranger) == ([], False)
    with db.connection(stranger.tenant_id) as connection:
        assert connection.execute("SELECT 1 FROM file_chunk").fetchall() == []


def test_an_expired_file_is_gone(principal: Principal) -> None:
    upload = Upload(principal)
    upload.write(b"x")
    made = upload.finish(filename="x", purpose="batch", expires_after_seconds=3600)
    with db.connection() as connection:
        connection.execute("UPDATE file SET expires_at = now() - interval '1 second'")

    with pytest.raises(NotFound):
        files.get(principal, made.id)


def test_housekeeping_removes_what_nobody_can_find_any_more(principal: Principal) -> None:
    # given files that have expired, an upload that was given up, one under way, and one that is kept
    for _ in range(12):
        expired = Upload(principal)
        expired.write(b"x")
        expired.finish(filename="x", purpose="batch", expires_after_seconds=3600)
    given_up = Upload(principal)
    given_up.write(b"x" * files.CHUNK_BYTES)
    with db.connection() as connection:
        connection.execute("UPDATE file SET expires_at = now() - interval '1 second' WHERE size_bytes IS NOT NULL")
        connection.execute("UPDATE file SET created_at = now() - interval '25 hours' WHERE size_bytes IS NULL")
    under_way, kept = Upload(principal), Upload(principal)
    kept.write(b"x")
    kept.finish(filename="x", purpose="user_data")
    # when housekeeping runs, a few at a time
    rounds = 0
    more = True
    while more:
        rounds += 1
        with db.connection() as connection:
            more = files.forget_old(connection)
    # then the last two are left, and no bytes of the others
    with db.connection() as connection:
        left = {row["id"] for row in connection.execute("SELECT id FROM file")}
        chunks = connection.execute("SELECT DISTINCT file_id FROM file_chunk").fetchall()
    assert left == {under_way.id, kept.id}
    assert [row["file_id"] for row in chunks] == [kept.id]
    assert rounds == 2


@pytest.mark.parametrize("seconds", [0, 3599, 30 * 86400 + 1])
def test_a_wrong_expiry_is_refused(principal: Principal, seconds: int) -> None:
    upload = Upload(principal)
    upload.write(b"x")

    with pytest.raises(InvalidInput):
        upload.finish(filename="x", purpose="batch", expires_after_seconds=seconds)


def test_ids_of_files_made_of_batches() -> None:
    batch_id = uuid4()

    for part in Part:
        assert file_batches.parse_file_id(file_batches.file_id(batch_id, part)) == (batch_id, part)
    assert file_batches.parse_file_id(files.public_id(batch_id)) is None
    with pytest.raises(NotFound):
        files.parse_id(file_batches.file_id(batch_id, Part.OUTPUT))


def test_a_wrong_line_is_explained_in_the_vendors_words() -> None:
    lines = [b"[]", b'{"custom_id": "a", "url": "/v1/chat/completions", "body": {"model": "x"}}']
    reader = RequestLines(lines, file_batches.CHAT)

    assert list(reader) == [b"-", {"temperature": None, "model": "x", "custom_id": "a"}]
    assert reader.explained(FieldError("", "empty", line=1)) == {
        "code": "invalid_json_line",
        "line": 1,
        "message": "This line is not a JSON object.",
        "param": None,
    }
    assert reader.explained(FieldError("/messages", "is required", line=2)) == {
        "code": "invalid_request",
        "line": 2,
        "message": "messages: is required",
        "param": "messages",
    }
