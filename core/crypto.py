"""Secrets at rest: AES-256-GCM, bound to the tenant and the row that they belong to.

The associated data holds tenant and row, so a ciphertext copied into another tenant's row, or another row of the
same tenant, does not decrypt. Key-encryption keys (KEKs) have versions: the highest encrypts, all of them decrypt, and
a row says which it needs. After a rotation the old one can be taken out of the settings.

Layout of a ciphertext: 12 bytes of nonce, then the encrypted text with its 16 bytes of tag (NIST SP 800-38D).
"""

from __future__ import annotations

import base64
import binascii
import os
from functools import lru_cache
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import ServiceError
from core.secret import Secret
from core.settings import settings

_NONCE_BYTES = 12
_KEY_BYTES = 32


class KeyProblem(ServiceError):
    """A stored secret cannot be encrypted or decrypted with the key-encryption keys of this process."""


def encrypt(secret: Secret, *, tenant_id: UUID, row_id: UUID) -> tuple[bytes, int]:
    """(ciphertext, version of the KEK). Raises KeyProblem when no KEK is configured."""
    version, cipher = _newest()
    nonce = os.urandom(_NONCE_BYTES)
    text = secret.reveal().encode()
    return nonce + cipher.encrypt(nonce, text, _bound_to(tenant_id, row_id)), version


def decrypt(ciphertext: bytes, key_version: int, *, tenant_id: UUID, row_id: UUID) -> Secret:
    """The secret. Raises KeyProblem: its KEK is not configured, or it does not belong to this tenant and row."""
    cipher = _ring().get(key_version)
    if cipher is None and settings().kek_file:
        # A key that the operator added to the file after this process started.
        _ring_of.cache_clear()
        cipher = _ring().get(key_version)
    if cipher is None:
        raise KeyProblem(
            f"A secret was encrypted with key-encryption key {key_version}, which is not configured."
            " Put it back into LLM_SERVICE_KEK, then run `python -m app.manage kek rotate`."
        )
    nonce, sealed = ciphertext[:_NONCE_BYTES], ciphertext[_NONCE_BYTES:]
    try:
        return Secret(cipher.decrypt(nonce, sealed, _bound_to(tenant_id, row_id)).decode())
    except (InvalidTag, ValueError):
        raise KeyProblem(
            f"A secret does not decrypt with key-encryption key {key_version}: the key was replaced under the same"
            " number, or the row was tampered with."
        ) from None


def reencrypt(ciphertext: bytes, key_version: int, *, tenant_id: UUID, row_id: UUID) -> tuple[bytes, int]:
    """The same secret under the newest KEK: (ciphertext, version)."""
    return encrypt(
        decrypt(ciphertext, key_version, tenant_id=tenant_id, row_id=row_id), tenant_id=tenant_id, row_id=row_id
    )


def newest_version() -> int:
    """The version of the KEK that encrypts. Raises KeyProblem when none is configured."""
    return _newest()[0]


def new_kek_text(current: Secret | None = None) -> Secret:
    """A text for LLM_SERVICE_KEK with a new key: alone, or after those of `current` and with the next version."""
    known = parse_kek_text(current) if current is not None else {}
    version = max(known, default=0) + 1
    known[version] = os.urandom(_KEY_BYTES)
    return Secret(",".join(f"{number}:{base64.b64encode(key).decode()}" for number, key in sorted(known.items())))


def parse_kek_text(text: Secret) -> dict[int, bytes]:
    """KEKs by version from `1:base64,2:base64`. Raises KeyProblem saying what is wrong, never quoting a key."""
    found: dict[int, bytes] = {}
    for position, part in enumerate(filter(None, (part.strip() for part in text.reveal().split(","))), start=1):
        version, colon, encoded = part.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not (colon and version.isascii() and version.isdigit() and 0 < int(version) < 1 << 31):
            raise KeyProblem(f"LLM_SERVICE_KEK: entry {position} does not begin with a version, as in `1:base64`.")
        if len(key) != _KEY_BYTES:
            raise KeyProblem(f"LLM_SERVICE_KEK: key {int(version)} is not {_KEY_BYTES} bytes in base64.")
        if int(version) in found:
            raise KeyProblem(f"LLM_SERVICE_KEK: version {int(version)} is there twice.")
        found[int(version)] = key
    return found


def _newest() -> tuple[int, AESGCM]:
    ring = _ring()
    if not ring:
        raise KeyProblem(
            "No key-encryption key is configured: set LLM_SERVICE_KEK or LLM_SERVICE_KEK_FILE"
            " (`python -m app.manage kek new` makes one)."
        )
    version = max(ring)
    return version, ring[version]


def _ring() -> dict[int, AESGCM]:
    source = settings()
    return _ring_of(source.kek, source.kek_file)


@lru_cache(maxsize=4)
def _ring_of(kek: str, kek_file: str) -> dict[int, AESGCM]:
    """The keys, read once for one pair of settings."""
    return {version: AESGCM(key) for version, key in parse_kek_text(settings().kek_text()).items()}


def _bound_to(tenant_id: UUID, row_id: UUID) -> bytes:
    return b"llm-service/1|" + tenant_id.bytes + row_id.bytes
