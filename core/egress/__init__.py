"""The one egress client: every connection to an address that a tenant chose is opened here, and nowhere else.

`request` and `stream` make a call; `check` tells whether a URL would be accepted. What they refuse is decided by
`policy`, on the address that is connected to; what can go wrong is the closed set of `errors`.
"""

from core.egress.body import Body
from core.egress.client import CONNECT_TIMEOUT_SECONDS, MAX_BYTES, Answer, Stream, request, stream
from core.egress.errors import BadAnswer, BodyFailed, ConnectFailed, ConnectionLost, EgressError, TimedOut, TooMuchData
from core.egress.resolve import check
from core.egress.wire import Headers
from core.errors import AddressRefused

__all__ = [
    "CONNECT_TIMEOUT_SECONDS",
    "MAX_BYTES",
    "AddressRefused",
    "Answer",
    "BadAnswer",
    "Body",
    "BodyFailed",
    "ConnectFailed",
    "ConnectionLost",
    "EgressError",
    "Headers",
    "Stream",
    "TimedOut",
    "TooMuchData",
    "check",
    "request",
    "stream",
]
