"""The tables, as SQLModel classes: what every query in core reads and writes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    Numeric,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from core.ids import new_id

NAMING = {
    "pk": "%(table_name)s_pkey",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
}
SQLModel.metadata.naming_convention = NAMING

_NOW = text("now()")


def _time(*, nullable: bool = False, default: bool = False, key: bool = False) -> Any:
    return Field(
        default=None,
        sa_column=Column(
            DateTime(timezone=True),
            nullable=nullable,
            server_default=_NOW if default else None,
            primary_key=key,
        ),
    )


def _text(*, nullable: bool = False, default: str | None = None) -> Any:
    return Field(
        default=default,
        sa_column=Column(Text, nullable=nullable, server_default=None if default is None else text(f"'{default}'")),
    )


def _money(*, nullable: bool = False) -> Any:
    return Field(
        default=None if nullable else Decimal(0),
        sa_column=Column(Numeric, nullable=nullable, server_default=None if nullable else text("0")),
    )


def _json(*, nullable: bool = False, default: str | None = None) -> Any:
    return Field(
        default=None,
        sa_column=Column(JSONB, nullable=nullable, server_default=None if default is None else text(f"'{default}'")),
    )


def _count(*, big: bool = False) -> Any:
    return Field(default=0, sa_column=Column(BigInteger if big else SmallInteger, nullable=False, server_default="0"))


class Tenant(SQLModel, table=True):
    id: UUID = Field(default_factory=new_id, primary_key=True)
    name: str = _text()
    #: share of the workers relative to other tenants
    weight: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    created_at: datetime = _time(default=True)


class Project(SQLModel, table=True):
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    name: str = _text()
    #: `retry` or `fail`: what becomes of a call whose outcome a crash left unknown
    on_unknown_outcome: str = _text(default="retry")
    #: `full`, or `metadata_only`: prompts and answers are not kept
    log_bodies: str = _text(default="full")
    #: completions older than this are removed; null: none are
    retention_days: int | None = None
    #: requests that its callers may make of the API in a minute; null: as many as the service allows
    requests_per_minute: int | None = None
    #: signs what webhook receivers get; encrypted like a provider key
    webhook_secret_ciphertext: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    webhook_secret_version: int | None = None
    created_at: datetime = _time(default=True)


class ApiKey(SQLModel, table=True):
    __tablename__: ClassVar[str] = "api_key"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    project_id: UUID = Field(foreign_key="project.id", index=True)
    name: str = _text(default="")
    #: SHA-256 of the api key (unique) and of its secret
    key_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    secret_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    #: the first characters of the api key, to tell keys apart in a list
    hint: str = _text()
    created_at: datetime = _time(default=True)
    expires_at: datetime | None = _time(nullable=True)
    revoked_at: datetime | None = _time(nullable=True)
    last_used_at: datetime | None = _time(nullable=True)


class Connection(SQLModel, table=True):
    """A project's credential at a provider, with the address it belongs to."""

    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    project_id: UUID = Field(foreign_key="project.id")
    provider_type: str = _text()
    name: str = _text(default="")
    base_url: str | None = _text(nullable=True)
    organization: str | None = _text(nullable=True)
    key_ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    key_version: int
    key_hint: str = _text(default="")
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = Field(default=None, sa_column=Column(BigInteger))
    max_concurrency: int | None = None
    #: `active`, or `stopped` when the provider refused the credential for good
    state: str = _text(default="active")
    stop_reason: str | None = _text(nullable=True)
    stop_message: str | None = _text(nullable=True)
    stopped_at: datetime | None = _time(nullable=True)
    created_at: datetime = _time(default=True)
    updated_at: datetime = _time(default=True)

    __table_args__ = (
        Index(
            "connection_one_of_a_type",
            "project_id",
            "provider_type",
            unique=True,
            postgresql_where=text("provider_type <> 'openai_compatible'"),
        ),
        Index(
            "connection_compatible_by_name",
            "project_id",
            "name",
            unique=True,
            postgresql_where=text("provider_type = 'openai_compatible'"),
        ),
    )


class ModelMapping(SQLModel, table=True):
    __tablename__: ClassVar[str] = "model_mapping"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    project_id: UUID = Field(foreign_key="project.id")
    alias: str = _text()
    model: str = _text()
    provider: str | None = _text(nullable=True)
    #: [{"model": ..., "provider": ...}], tried in order
    fallbacks: list[dict[str, Any]] = _json(default="[]")
    created_at: datetime = _time(default=True)
    updated_at: datetime = _time(default=True)

    __table_args__ = (Index("model_mapping_alias", "project_id", "alias", unique=True),)


class IdempotencyKey(SQLModel, table=True):
    """The first answer to a POST with an Idempotency-Key, kept for 24 hours."""

    __tablename__: ClassVar[str] = "idempotency_key"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id", index=True)
    project_id: UUID = Field(foreign_key="project.id")
    key: str = _text()
    #: SHA-256 over method, path and body
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    #: null while the first request is still being answered
    status_code: int | None = None
    response: str | None = _text(nullable=True)
    #: a request that died in flight gives its key back after this
    locked_until: datetime = _time()
    created_at: datetime = _time(default=True)

    __table_args__ = (Index("idempotency_key_key", "project_id", "key", unique=True),)


class Batch(SQLModel, table=True):
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id")
    project_id: UUID = Field(foreign_key="project.id")
    created_at: datetime = _time()
    name: str | None = _text(nullable=True)
    # `metadata` is taken by SQLAlchemy
    labels: dict[str, str] = _json(default="{}")
    processing: str = _text()
    priority: int = Field(default=0, sa_column=Column(SmallInteger, nullable=False, server_default="0"))
    max_cost_usd: Decimal | None = _money(nullable=True)
    max_error_rate: float | None = None
    webhook_url: str | None = _text(nullable=True)
    #: the batch whose failed rows this one runs again
    retry_of: UUID | None = None
    #: as callers see it. `cancelled`, `expired` or `failed` with no ended_at: rows in flight still come home
    status: str = _text(default="pending")
    #: why it is paused or failed: a FailureReason, and a sentence for its owner
    status_reason: str | None = _text(nullable=True)
    status_message: str | None = _text(nullable=True)
    expires_at: datetime = _time()
    started_at: datetime | None = _time(nullable=True)
    cancelled_at: datetime | None = _time(nullable=True)
    ended_at: datetime | None = _time(nullable=True)
    total: int
    #: rows that a lane has handed to `lease`; pending = total - dispatched, processing = dispatched - ended
    dispatched: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    succeeded: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    failed: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    cancelled: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    expired: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    input_tokens: int = _count(big=True)
    output_tokens: int = _count(big=True)
    cached_tokens: int = _count(big=True)
    reasoning_tokens: int = _count(big=True)
    cost_usd: Decimal = _money()
    savings_usd: Decimal = _money()
    #: the most that rows in flight can still cost; held against max_cost_usd
    reserved_usd: Decimal = _money()
    #: provider calls beyond the first of a row
    retries: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: False: native shards are sent as they are, without marks for the provider's prompt cache
    prompt_caching: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    #: while it waits for its project's budget: what its next row may cost
    needs_usd: Decimal | None = _money(nullable=True)

    __table_args__ = (
        Index("batch_list", "project_id", "created_at", "id"),
        Index("batch_running", "id", postgresql_where=text("ended_at IS NULL")),
    )


class BatchError(SQLModel, table=True):
    """How often a cause ended rows of a batch: the `errors` of the batch object."""

    __tablename__: ClassVar[str] = "batch_error"
    batch_id: UUID = Field(primary_key=True)
    reason: str = Field(sa_column=Column(Text, primary_key=True))
    tenant_id: UUID = Field()
    count: int
    #: the first message seen
    message: str = _text(default="")


class Lane(SQLModel, table=True):
    """The rows of one batch for one connection and model: one block of ids, dispatched by a cursor."""

    #: the block: its rows are id << 24 + 0, 1, 2 ...
    id: int = Field(sa_column=Column(BigInteger, Identity(always=False), primary_key=True))
    batch_id: UUID = Field(foreign_key="batch.id", ondelete="CASCADE", index=True)
    tenant_id: UUID = Field()
    project_id: UUID = Field()
    created_at: datetime = _time()
    connection_id: UUID = Field(index=True)
    provider: str = _text()
    model: str = _text()
    total: int
    #: rows 0 .. next_n - 1 have been dispatched, gathered into a native shard, or swept
    next_n: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: how rows that are still to be dispatched are run, and why: `native` becomes `realtime` where time runs out
    processing: str = _text(default="realtime")
    processing_reason: str = _text(default="")


class Completion(SQLModel, table=True):
    """One LLM request, live or of a batch, from its acceptance until retention removes it."""

    id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = _time(key=True)
    tenant_id: UUID = Field()
    project_id: UUID = Field()
    batch_id: UUID | None = None
    custom_id: str | None = _text(nullable=True)
    status: str = _text(default="pending")
    processing: str = _text(default="realtime")
    #: as the caller named it, and what was called
    model_requested: str = _text()
    model: str = _text()
    provider: str = _text()
    connection_id: UUID | None = None
    request_id: str | None = _text(nullable=True)
    request_sha256: bytes | None = Field(default=None, sa_column=Column(LargeBinary))
    #: what is held against the limits until the real usage is known
    estimated_input_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    estimated_output_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: Decimal | None = _money(nullable=True)
    list_cost_usd: Decimal | None = _money(nullable=True)
    price_version: str | None = _text(nullable=True)
    attempts: int = _count()
    error_type: str | None = _text(nullable=True)
    error_message: str | None = _text(nullable=True)
    provider_status: int | None = Field(default=None, sa_column=Column(SmallInteger))
    started_at: datetime | None = _time(nullable=True)
    ended_at: datetime | None = _time(nullable=True)
    first_token_ms: int | None = None
    #: once it has ended: what the provider was asked for, while `model` is what it says has answered
    model_called: str | None = _text(nullable=True)
    #: calls that failed before the one that decided, the last 20 (core/failed_calls.py)
    failed_attempts: Any | None = _json(nullable=True)

    __table_args__ = (
        Index("completion_custom_id", "batch_id", "custom_id", "created_at", unique=True),
        Index("completion_log", "project_id", "created_at", "id"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )


class CompletionRequest(SQLModel, table=True):
    """What the caller sent, as JSON text in OpenAI's form."""

    __tablename__: ClassVar[str] = "completion_request"
    completion_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = _time(key=True)
    tenant_id: UUID = Field()
    body: str = _text()

    __table_args__ = ({"postgresql_partition_by": "RANGE (created_at)"},)


class CompletionResponse(SQLModel, table=True):
    """What the caller got, as JSON text: an OpenAI chat completion object."""

    __tablename__: ClassVar[str] = "completion_response"
    completion_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = _time(key=True)
    tenant_id: UUID = Field()
    body: str = _text()

    __table_args__ = ({"postgresql_partition_by": "RANGE (created_at)"},)


class Worker(SQLModel, table=True):
    """One life of one worker process; its leases live as long as this one does."""

    id: UUID = Field(default_factory=new_id, primary_key=True)
    host: str = _text()
    pid: int
    started_at: datetime = _time(default=True)
    lease_expires_at: datetime = _time()
    capacity: int
    in_flight: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: it takes no new rows: it is stopping
    draining: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})


class Lease(SQLModel, table=True):
    """A row of a batch that has been dispatched and has not ended: rung, running, or waiting to be tried again.

    Deleting it under its fence is what ends the row: whoever deletes it writes the outcome.
    """

    completion_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    created_at: datetime = _time()
    batch_id: UUID = Field()
    tenant_id: UUID = Field()
    lane_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    connection_id: UUID = Field()
    #: raised by every claim: an older holder can no longer start or fail the row
    fence: int
    #: provider calls made so far that gave no answer, and those of them that count towards giving up
    attempts: int = _count()
    strikes: int = _count()
    #: workers that died with the row in hand
    crashes: int = _count()
    #: set while it waits to be tried again
    due_at: datetime | None = _time(nullable=True)
    #: its calls that failed, the last 20 (core/failed_calls.py)
    failures: Any | None = _json(nullable=True)
    #: set when its doorbell was rung
    rung_at: datetime | None = _time(nullable=True)
    call_started_at: datetime | None = _time(nullable=True)
    worker_id: UUID | None = None
    estimated_input_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    estimated_output_tokens: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: the most this row can cost; part of the batch's reserved_usd
    reserved_usd: Decimal = _money()

    # Few rows, changed often: everything but the key stays out of indexes so that updates stay in their page.
    __table_args__ = (
        CheckConstraint("num_nonnulls(due_at, rung_at) = 1", name="waiting_or_rung"),
        {"postgresql_with": {"fillfactor": "50"}},
    )


class WebhookDelivery(SQLModel, table=True):
    """The outbox: one event for one receiver, written in the transaction that made the event."""

    __tablename__: ClassVar[str] = "webhook_delivery"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field()
    project_id: UUID = Field()
    batch_id: UUID | None = Field(default=None, index=True)
    #: null: the batch's own webhook_url. No foreign key: the log outlives its endpoint
    endpoint_id: UUID | None = Field(default=None, index=True)
    #: what shares one allowance of attempts: an endpoint, or all URLs of a project on one host
    receiver: str = _text(default="")
    event_type: str = _text()
    url: str = _text()
    payload: str = _text()
    #: `pending`, `delivered` or `failed`
    status: str = _text(default="pending")
    attempts: int = _count()
    fence: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    due_at: datetime = _time(default=True)
    #: set while a worker holds it
    lease_expires_at: datetime | None = _time(nullable=True)
    last_status: int | None = None
    last_error: str | None = _text(nullable=True)
    created_at: datetime = _time(default=True)
    delivered_at: datetime | None = _time(nullable=True)

    __table_args__ = (
        Index("webhook_delivery_due", "receiver", "due_at", postgresql_where=text("status = 'pending'")),
        Index(
            "webhook_delivery_held",
            "receiver",
            postgresql_where=text("status = 'pending' AND lease_expires_at IS NOT NULL"),
        ),
        Index("webhook_delivery_list", "project_id", "id"),
    )


class Rollup(SQLModel, table=True):
    """What ended in one hour, added up: written in the transaction that ends the rows."""

    project_id: UUID = Field(primary_key=True)
    #: when the rows ended, cut to the hour in UTC
    hour: datetime = _time(key=True)
    provider: str = Field(sa_column=Column(Text, primary_key=True))
    #: as the provider was asked for it
    model: str = Field(sa_column=Column(Text, primary_key=True))
    processing: str = Field(sa_column=Column(Text, primary_key=True))
    status: str = Field(sa_column=Column(Text, primary_key=True))
    #: empty for rows that succeeded
    error_type: str = Field(sa_column=Column(Text, primary_key=True))
    tenant_id: UUID
    requests: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempts: int = Field(sa_column=Column(BigInteger, nullable=False))
    input_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    output_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cached_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cache_write_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    reasoning_tokens: int = Field(sa_column=Column(BigInteger, nullable=False))
    cost_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    savings_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    #: answers of models without a known price
    unpriced: int = Field(sa_column=Column(BigInteger, nullable=False))
    #: histograms (core/histogram.py) of milliseconds
    latency: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    first_token: Decimal = Field(sa_column=Column(Numeric, nullable=False))

    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)


class WebhookEndpoint(SQLModel, table=True):
    """Where a project's events go, beside the webhook_url of its batches."""

    __tablename__: ClassVar[str] = "webhook_endpoint"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id")
    project_id: UUID = Field(foreign_key="project.id", index=True)
    url: str = _text()
    description: str | None = _text(nullable=True)
    #: names; null: all events
    event_types: list[str] | None = _json(nullable=True)
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    disabled_reason: str | None = _text(nullable=True)
    disabled_at: datetime | None = _time(nullable=True)
    #: of the first failure since it last took something
    failing_since: datetime | None = _time(nullable=True)
    created_at: datetime = _time(default=True)
    updated_at: datetime = _time(default=True)


class WebhookSecret(SQLModel, table=True):
    """Secrets of endpoints, and those that endpoints and projects had before a rotation while they still sign."""

    __tablename__: ClassVar[str] = "webhook_secret"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID = Field(foreign_key="tenant.id")
    project_id: UUID = Field(foreign_key="project.id", index=True)
    #: null: an old one of the project, whose present one lies in `project`
    endpoint_id: UUID | None = Field(default=None, index=True)
    ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    version: int
    #: null: the present one
    expires_at: datetime | None = _time(nullable=True)


class WebhookAttempt(SQLModel, table=True):
    """One attempt at a delivery, and what the receiver said."""

    __tablename__: ClassVar[str] = "webhook_attempt"
    delivery_id: UUID = Field(primary_key=True)
    number: int = Field(sa_column=Column(SmallInteger, primary_key=True, autoincrement=False))
    tenant_id: UUID
    started_at: datetime = _time()
    duration_ms: int
    #: null: there was no answer
    status: int | None = None
    error: str | None = _text(nullable=True)
    excerpt: str = _text(default="")


class Budget(SQLModel, table=True):
    """What a project may spend in a month or a day, and what it has spent in the present one."""

    project_id: UUID = Field(foreign_key="project.id", primary_key=True)
    #: `month` or `day`, in UTC
    period: str = Field(sa_column=Column(Text, primary_key=True))
    tenant_id: UUID = Field(foreign_key="tenant.id")
    limit_usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    #: shares of the limit at which to warn
    thresholds: list[float] = _json()
    #: `stop` or `warn`
    on_limit: str = _text()
    #: of the period that the counters are of; they are nought if another one has begun
    period_start: datetime = _time()
    spent_usd: Decimal = _money()
    #: the highest share of the limit that was warned of in this period
    warned: Decimal = _money()
    created_at: datetime = _time(default=True)
    updated_at: datetime = _time(default=True)

    __table_args__ = ({"postgresql_with": {"fillfactor": "50"}},)


class BudgetHold(SQLModel, table=True):
    """What a live call in flight can cost, held against its project's budgets."""

    __tablename__: ClassVar[str] = "budget_hold"
    id: UUID = Field(default_factory=new_id, primary_key=True)
    tenant_id: UUID
    project_id: UUID = Field(index=True)
    usd: Decimal = Field(sa_column=Column(Numeric, nullable=False))
    #: the process that made the call has died
    expires_at: datetime = _time()
