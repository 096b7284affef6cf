"""Uploaded files, and what links a batch to the file that it was made of."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, Column, ForeignKey, Index, LargeBinary, Uuid
from sqlmodel import Field, SQLModel

from core.ids import new_id
from core.tables.columns import json_column, text_column, time_column


class StoredFile(SQLModel, table=True):
    """An uploaded file. Its bytes lie in `file_chunk`; there is no way to change them."""

    __tablename__: ClassVar[str] = "file"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field()
    project_id: UUID = Field()
    filename: str = text_column(default="")
    purpose: str = text_column(default="")
    #: null while it is being uploaded: nobody sees it then
    size_bytes: int | None = Field(default=None, sa_column=Column(BigInteger))
    created_at: datetime = time_column(default=True)
    expires_at: datetime | None = time_column(nullable=True)

    __table_args__ = (Index("file_list", "project_id", "id"),)


class FileChunk(SQLModel, table=True):
    """A piece of a file, at most core.files.CHUNK_BYTES long; n counts from 0."""

    __tablename__: ClassVar[str] = "file_chunk"
    file_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("file.id", ondelete="CASCADE"), primary_key=True))
    n: int = Field(primary_key=True)
    tenant_id: UUID = Field()
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class BatchSource(SQLModel, table=True):
    """How a batch was made from a file through OpenAI's surface."""

    __tablename__: ClassVar[str] = "batch_source"
    batch_id: UUID = Field(sa_column=Column(Uuid, ForeignKey("batch.id", ondelete="CASCADE"), primary_key=True))
    tenant_id: UUID = Field()
    #: the file may have been deleted since
    file_id: UUID = Field()
    endpoint: str = text_column()
    completion_window: str = text_column()
    #: what was wrong with the file, if the batch failed for that
    errors: list[dict[str, Any]] | None = json_column(nullable=True)
