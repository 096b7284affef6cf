"""What can become of a call that got no whole answer: a closed set, each saying whether the request may have run."""

from __future__ import annotations

from core.errors import ServiceError


class EgressError(ServiceError):
    """The call got no answer.

    `sent` is False when the server cannot have had the whole request, so that repeating it costs nothing. It is
    True when the request went out in full: the server may have run it, and may bill for it.
    """

    sent: bool

    def __init__(self, detail: str | None = None, *, sent: bool) -> None:
        super().__init__(detail)
        self.sent = sent


class ConnectFailed(EgressError):
    """The server could not be reached: its name, its port, or its certificate."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, sent=False)


class TimedOut(EgressError):
    """The call took longer than it was given."""


class ConnectionLost(EgressError):
    """The server closed the connection before its answer was complete."""


class TooMuchData(EgressError):
    """The answer is larger than this call accepts."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, sent=True)


class BadAnswer(EgressError):
    """What came back is not HTTP as this client reads it."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, sent=True)


class BodyFailed(EgressError):
    """The request's body could not be produced as announced: a fault on this side. The server had no whole request."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, sent=False)
