"""The closed vocabularies of the platform: states of batches and rows, and every reason a call can fail for."""

from __future__ import annotations

from enum import StrEnum


class RowStatus(StrEnum):
    """Where one completion stands. A row in flight is `pending` with a lease beside it."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self is not RowStatus.PENDING


class BatchStatus(StrEnum):
    """Where a batch stands, as its owner sees it (the table in docs/api.md)."""

    PENDING = "pending"
    PROCESSING = "processing"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def runs(self) -> bool:
        """True while rows of the batch may be started."""
        return self in (BatchStatus.PENDING, BatchStatus.PROCESSING)


class Processing(StrEnum):
    """How a batch or a row is run: on our workers, through the provider's batch API, or whichever pays."""

    AUTO = "auto"
    REALTIME = "realtime"
    NATIVE = "native"


class ProviderType(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OPENAI_COMPATIBLE = "openai_compatible"


class Action(StrEnum):
    """What a failure asks the platform to do with the row."""

    RETRY = "retry"
    FAIL = "fail"
    STOP_CONNECTION = "stop_connection"


class FailureReason(StrEnum):
    """Why a call did not give an answer. Closed: a new provider error is mapped onto one of these.

    The value is the `type` of the error in a result row and the `reason` label of the failure metrics.
    """

    # Transient: the same request may succeed later.
    NETWORK = "network_error"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    PROVIDER_ERROR = "provider_error"
    INVALID_RESPONSE = "invalid_response"
    INTERNAL = "internal_error"
    # The request itself is wrong: only this row fails.
    INVALID_REQUEST = "invalid_request"
    MODEL_NOT_FOUND = "model_not_found"
    REQUEST_TOO_LARGE = "request_too_large"
    ADDRESS_REFUSED = "address_refused"
    # The credential no longer works: everything behind it stops.
    AUTHENTICATION = "authentication_failed"
    PERMISSION = "permission_denied"
    QUOTA_EXHAUSTED = "quota_exhausted"
    # Ours.
    NOT_CONFIGURED = "provider_not_configured"
    OUTCOME_UNKNOWN = "outcome_unknown"
    WORKER_CRASHED = "worker_crashed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    COST_LIMIT = "cost_limit"
    ERROR_LIMIT = "error_limit"

    @property
    def action(self) -> Action:
        if self in _TRANSIENT:
            return Action.RETRY
        return Action.STOP_CONNECTION if self in _STOPPING else Action.FAIL

    @property
    def retryable(self) -> bool:
        """True if sending the same row again later may succeed: what `retryable` says in a result."""
        return self.action is not Action.FAIL or self in _OURS_RETRYABLE


_TRANSIENT = frozenset(
    {
        FailureReason.NETWORK,
        FailureReason.TIMEOUT,
        FailureReason.RATE_LIMITED,
        FailureReason.OVERLOADED,
        FailureReason.PROVIDER_ERROR,
        FailureReason.INVALID_RESPONSE,
        FailureReason.INTERNAL,
    }
)
_STOPPING = frozenset({FailureReason.AUTHENTICATION, FailureReason.PERMISSION, FailureReason.QUOTA_EXHAUSTED})
_OURS_RETRYABLE = frozenset(
    {
        FailureReason.OUTCOME_UNKNOWN,
        FailureReason.NOT_CONFIGURED,
        FailureReason.CANCELLED,
        FailureReason.EXPIRED,
        FailureReason.COST_LIMIT,
        FailureReason.ERROR_LIMIT,
    }
)
