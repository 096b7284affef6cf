"""The one tree of errors. A class's docstring is its default message; the border maps them to problem details."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with an input: where (JSON pointer, or `line N` + pointer) and what to do about it."""

    pointer: str
    message: str
    line: int | None = None

    def as_dict(self) -> dict[str, object]:
        found: dict[str, object] = {"pointer": self.pointer, "message": self.message}
        if self.line is not None:
            found["line"] = self.line
        return found


class ServiceError(Exception):
    """The service could not do this."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)


class InvalidInput(ServiceError):
    """The request is not valid: see errors."""

    def __init__(self, errors: list[FieldError] | None = None, detail: str | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []


class Unauthenticated(ServiceError):
    """The credentials are missing or not valid: x-api-key, x-secret-key, x-tenant-id and x-project-id of one key."""


class NotFound(ServiceError):
    """There is no such resource in this project."""


class Conflict(ServiceError):
    """The resource is not in a state that allows this."""


class TooLarge(ServiceError):
    """The request is over a limit of this service."""


class NotYetAvailable(ServiceError):
    """The batch has not ended yet; ask again later or add ?partial=true."""


class OverLimit(ServiceError):
    """Too many requests; try again after the time in Retry-After."""

    def __init__(self, detail: str | None = None, retry_after_seconds: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class BudgetExhausted(OverLimit):
    """The project's budget has no room for this; raise it, or try again in the next period."""


class BudgetReserved(BudgetExhausted):
    """Calls in flight have reserved what is left of the project's budget; try again when they have ended."""


class Unavailable(ServiceError):
    """A part of the service is not available right now; try again after the time in Retry-After."""

    def __init__(self, detail: str | None = None, retry_after_seconds: float = 2.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class AddressRefused(ServiceError):
    """The address is private, special or not allowed; use a public https address."""


class ProviderFailed(ServiceError):
    """The provider did not answer this request."""

    def __init__(
        self,
        detail: str,
        *,
        reason: str,
        provider: str,
        provider_status: int | None,
        retry_after_seconds: float | None,
        provider_code: str | None = None,
        provider_param: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.provider = provider
        self.provider_status = provider_status
        self.retry_after_seconds = retry_after_seconds
        self.provider_code = provider_code
        self.provider_param = provider_param
