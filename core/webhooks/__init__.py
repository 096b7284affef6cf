"""Webhooks: events go into an outbox with the change that made them, and are delivered, signed, until they are taken.

`outbox` writes events, `attempts` leads their deliveries, `health` disables endpoints that take nothing, `signing`
keeps the secrets, `endpoints` are what a project set up beside the `webhook_url` of its batches, `deliveries` is the
log.
"""

from core.webhooks.attempts import MAX_EXCERPT_BYTES, TIMEOUT_SECONDS, Delivery, begin, claim_due, finish
from core.webhooks.deliveries import forget_old
from core.webhooks.outbox import announce, emit
from core.webhooks.signing import headers, project_secret, rotate_project_secret

__all__ = [
    "MAX_EXCERPT_BYTES",
    "TIMEOUT_SECONDS",
    "Delivery",
    "announce",
    "begin",
    "claim_due",
    "emit",
    "finish",
    "forget_old",
    "headers",
    "project_secret",
    "rotate_project_secret",
]
