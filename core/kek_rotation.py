"""Rotation of the key-encryption key: everything encrypted with an older one is encrypted with the newest."""

from __future__ import annotations

from core import crypto, db
from core.idempotency import NO_TENANT

#: Secrets of one transaction.
_ROTATE_BATCH = 200


def rotate_kek() -> int:
    """Encrypt everything that is not under the newest KEK again; how many secrets that were.

    Providers' keys, webhook secrets, and answers with a secret that are kept for an Idempotency-Key, in short
    transactions, so it can run beside the service and be run again after an interruption. Raises crypto.KeyProblem when
    an old KEK is missing; what was done until then stays done.
    """
    newest = crypto.newest_version()
    kinds = (_CONNECTION_KEYS, _PROJECT_SECRETS, _WEBHOOK_SECRETS, _FIRST_ANSWERS)
    return sum(_rotate(statements, newest) for statements in kinds)


def _rotate(statements: tuple[str, str], newest: int) -> int:
    choose, change = statements
    done = 0
    while True:
        with db.connection() as held:
            rows = held.execute(choose, (newest, _ROTATE_BATCH)).fetchall()
            for row in rows:
                ciphertext, version = crypto.reencrypt(
                    bytes(row["ciphertext"]), row["version"], tenant_id=row["tenant_id"], row_id=row["id"]
                )
                held.execute(change, (ciphertext, version, row["id"], row["tenant_id"]))
        if not rows:
            return done
        done += len(rows)


_CONNECTION_KEYS = (
    "SELECT id, tenant_id, key_ciphertext AS ciphertext, key_version AS version FROM connection"
    " WHERE key_version <> %s ORDER BY id LIMIT %s FOR UPDATE",
    "UPDATE connection SET key_ciphertext = %s, key_version = %s WHERE id = %s AND tenant_id = %s",
)
_PROJECT_SECRETS = (
    "SELECT id, tenant_id, webhook_secret_ciphertext AS ciphertext, webhook_secret_version AS version FROM project"
    " WHERE webhook_secret_version <> %s ORDER BY id LIMIT %s FOR UPDATE",
    "UPDATE project SET webhook_secret_ciphertext = %s, webhook_secret_version = %s WHERE id = %s AND tenant_id = %s",
)
_WEBHOOK_SECRETS = (
    "SELECT id, tenant_id, ciphertext, version FROM webhook_secret WHERE version <> %s ORDER BY id LIMIT %s FOR UPDATE",
    "UPDATE webhook_secret SET ciphertext = %s, version = %s WHERE id = %s AND tenant_id = %s",
)
_TENANT = f"coalesce(tenant_id, '{NO_TENANT}')"
_FIRST_ANSWERS = (
    f"SELECT id, {_TENANT} AS tenant_id, ciphertext, key_version AS version FROM idempotency_key"  # noqa: S608
    " WHERE key_version <> %s ORDER BY id LIMIT %s FOR UPDATE",
    f"UPDATE idempotency_key SET ciphertext = %s, key_version = %s WHERE id = %s AND {_TENANT} = %s",  # noqa: S608
)
