"""Idempotency keys: the first answer to a POST, kept for 24 hours and given again to whoever repeats it.

The operator's keys are of no tenant. Answers that hold a secret are kept encrypted.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from uuid import UUID

from core import crypto, db
from core.errors import Conflict, FieldError, InvalidInput
from core.ids import new_id
from core.principal import Principal
from core.secret import Secret

KEPT_HOURS = 24
#: How long a request holds its key without a sign of life; a process that died gives it back after that.
LOCK_SECONDS = 45.0

#: Stands for the tenant of what the operator was answered, where it is encrypted.
NO_TENANT = UUID(int=0)

_KEY = re.compile(r"[\x20-\x7e]{1,255}\Z")


class KeyInUse(Conflict):
    """A request with this Idempotency-Key is still being answered; ask again in a moment."""


class KeyReused(Conflict):
    """This Idempotency-Key was used for another request; take a new key for a new request."""


def digest(method: str, path: str) -> hashlib._Hash:
    """The start of a request's fingerprint; its body is to be added with update()."""
    return hashlib.sha256(f"{method} {path}\n".encode())


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What the first request with this key was answered."""

    status_code: int
    body: str
    fingerprint: bytes
    #: it holds a secret: no cache may keep it
    secret: bool = False

    def check(self, fingerprint: bytes) -> None:
        """Raises KeyReused if the first request was not the same as the one with this fingerprint."""
        if fingerprint != self.fingerprint:
            raise KeyReused


@dataclass(slots=True)
class Claim:
    """A key held by the request being answered; it ends with `finish` or `release`."""

    #: None: the operator
    principal: Principal | None
    id: UUID
    finished: bool = False

    @property
    def _tenant_id(self) -> UUID | None:
        return None if self.principal is None else self.principal.tenant_id

    def finish(
        self,
        status_code: int,
        body: str,
        fingerprint: bytes,
        connection: db.RawConnection | None = None,
        *,
        secret: bool = False,
    ) -> None:
        """Keep the answer. With the connection of the transaction that does the request's work, both commit or neither.

        Parameters
        ----------
        secret : the answer holds a secret, and is kept encrypted.

        Raises
        ------
        KeyInUse
            The key was taken over meanwhile: the work must not be committed.
        core.crypto.KeyProblem
            There is no key to encrypt it with.
        """
        if connection is None:
            with db.connection(self._tenant_id) as own:
                self.finish(status_code, body, fingerprint, own, secret=secret)
            return
        ciphertext: bytes | None = None
        key_version: int | None = None
        if secret:
            ciphertext, key_version = crypto.encrypt(
                Secret(body), tenant_id=self._tenant_id or NO_TENANT, row_id=self.id
            )
        done = connection.execute(
            "UPDATE idempotency_key SET status_code = %s, response = %s, ciphertext = %s, key_version = %s,"
            " fingerprint = %s"
            " WHERE id = %s AND tenant_id IS NOT DISTINCT FROM %s AND status_code IS NULL RETURNING id",
            (
                status_code,
                None if secret else body,
                ciphertext,
                key_version,
                fingerprint,
                self.id,
                self._tenant_id,
            ),
        )
        # In a pipeline the number of rows is not known yet; asking for the row waits for it.
        if done.fetchone() is None:
            raise KeyInUse
        self.finished = True

    def extend(self) -> None:
        """Say that the request is still being read or answered; to be called well within LOCK_SECONDS."""
        with db.connection(self._tenant_id) as connection:
            connection.execute(
                "UPDATE idempotency_key SET locked_until = now() + make_interval(secs => %s)"
                " WHERE id = %s AND tenant_id IS NOT DISTINCT FROM %s AND status_code IS NULL",
                (LOCK_SECONDS, self.id, self._tenant_id),
            )

    def release(self) -> None:
        """Give the key back: the request did nothing, and may be sent again with the same key."""
        with db.connection(self._tenant_id) as connection:
            connection.execute(
                "DELETE FROM idempotency_key"
                " WHERE id = %s AND tenant_id IS NOT DISTINCT FROM %s AND status_code IS NULL",
                (self.id, self._tenant_id),
            )


def claim(principal: Principal | None, key: str, *, lock_seconds: float = LOCK_SECONDS) -> Claim | FirstAnswer:
    """Take the key for this request, or find what the first one was answered.

    The caller holds a FirstAnswer against its own fingerprint with `check`; for a streamed body it is known only
    at the end.

    Parameters
    ----------
    principal : whose keys; None: the operator's.

    Raises
    ------
    InvalidInput
        The key is not 1 to 255 printable ASCII characters.
    KeyInUse
        Another request holds it right now.
    """
    if not _KEY.match(key):
        raise InvalidInput([FieldError("Idempotency-Key", "must be 1 to 255 printable ASCII characters")])
    new = new_id()
    tenant_id = None if principal is None else principal.tenant_id
    with db.connection(tenant_id) as connection:
        # One statement: of two requests at once the second waits here for the first one's commit, then finds its row.
        taken = connection.execute(_TAKE, _values(principal, key, new, lock_seconds)).fetchone()
        if taken is not None:
            return Claim(principal, new)
        found = connection.execute(
            "SELECT id, status_code, response, ciphertext, key_version, fingerprint FROM idempotency_key"
            " WHERE project_id IS NOT DISTINCT FROM %s AND tenant_id IS NOT DISTINCT FROM %s AND key = %s",
            (None if principal is None else principal.project_id, tenant_id, key),
        ).fetchone()
    if found is None or found["status_code"] is None:
        raise KeyInUse
    body, secret = found["response"], found["key_version"] is not None
    if secret:
        body = crypto.decrypt(
            bytes(found["ciphertext"]), found["key_version"], tenant_id=tenant_id or NO_TENANT, row_id=found["id"]
        ).reveal()
    return FirstAnswer(found["status_code"], body, bytes(found["fingerprint"]), secret)


def forget_old(connection: db.RawConnection) -> int:
    """Remove the answers that are older than 24 hours; returns how many. For the platform's retention."""
    return connection.execute(
        "DELETE FROM idempotency_key WHERE created_at < now() - make_interval(hours => %s)", (KEPT_HOURS,)
    ).rowcount


def _values(principal: Principal | None, key: str, new: UUID, lock_seconds: float) -> dict[str, object]:
    return {
        "id": new,
        "tenant": None if principal is None else principal.tenant_id,
        "project": None if principal is None else principal.project_id,
        "key": key,
        "lock": lock_seconds,
        "kept": KEPT_HOURS,
    }


# A row may be taken over when it is too old to count, or when whoever held it died without an answer.
_TAKE = """
INSERT INTO idempotency_key AS held (id, tenant_id, project_id, key, fingerprint, locked_until)
VALUES (%(id)s, %(tenant)s, %(project)s, %(key)s, '', now() + make_interval(secs => %(lock)s))
ON CONFLICT (project_id, key) DO UPDATE
SET id = excluded.id, fingerprint = '', status_code = NULL, response = NULL, ciphertext = NULL, key_version = NULL,
    locked_until = excluded.locked_until, created_at = now()
WHERE held.created_at < now() - make_interval(hours => %(kept)s)
   OR (held.status_code IS NULL AND held.locked_until < now())
RETURNING id
"""
