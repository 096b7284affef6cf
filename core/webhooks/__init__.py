"""Webhooks: events go into an outbox with the change that made them, and are delivered, signed, until they are taken.

`outbox` writes events and leads their deliveries, `signing` keeps the secrets, `endpoints` are what a project set up
beside the `webhook_url` of its batches, `deliveries` is the log.
"""

from core.webhooks.outbox import (
    MAX_EXCERPT_BYTES,
    TIMEOUT_SECONDS,
    Delivery,
    announce,
    begin,
    claim_due,
    emit,
    finish,
    forget_old,
)
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
