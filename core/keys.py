"""API keys as text: how they are made, how a mistyped or invented one is told apart without a database.

Three forms, each ending in six characters of checksum (CRC-32 of all before it, in base 62):

    llms_ak_<43 characters>cccccc     names the key      (x-api-key)
    llms_sk_<43 characters>cccccc     its secret         (x-secret-key)
    llms_<86 characters>cccccc        both, in one token (Authorization: Bearer, for the vendors' SDKs)

43 characters of base 62 hold 256 random bits. Of key and secret only the SHA-256 is stored: with that much
entropy no salt and no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass

from core.secret import Secret

API_KEY_PREFIX = "llms_ak_"
SECRET_KEY_PREFIX = "llms_sk_"
TOKEN_PREFIX = "llms_"

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: base-62 digits of 256 bits, and of 32
_RANDOM = 43
_CHECK = 6
#: characters of an api key that are shown to tell keys apart
_HINT = len(API_KEY_PREFIX) + 6

_API_KEY = re.compile(rf"{API_KEY_PREFIX}([0-9A-Za-z]{{{_RANDOM}}})[0-9A-Za-z]{{{_CHECK}}}\Z")
_SECRET_KEY = re.compile(rf"{SECRET_KEY_PREFIX}([0-9A-Za-z]{{{_RANDOM}}})[0-9A-Za-z]{{{_CHECK}}}\Z")
_TOKEN = re.compile(rf"{TOKEN_PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{{_RANDOM}}})[0-9A-Za-z]{{{_CHECK}}}\Z")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An api key and its secret, as they are shown once."""

    api_key: Secret
    secret_key: Secret

    @property
    def token(self) -> Secret:
        """Both in one string."""
        random = _API_KEY.match(self.api_key.reveal())
        other = _SECRET_KEY.match(self.secret_key.reveal())
        assert random is not None
        assert other is not None
        return Secret(_checked(TOKEN_PREFIX + random[1] + other[1]))

    @property
    def hint(self) -> str:
        """The beginning of the api key: enough to tell keys apart, of no use to anybody."""
        return self.api_key.reveal()[:_HINT]


def new_pair() -> KeyPair:
    """A new key with its secret, 256 random bits each."""
    return KeyPair(Secret(_checked(API_KEY_PREFIX + _random())), Secret(_checked(SECRET_KEY_PREFIX + _random())))


def is_api_key(text: str) -> bool:
    """True if the text has the form of an api key and its checksum is right. Never raises, whatever the text."""
    return _API_KEY.match(text) is not None and _is_intact(text)


def is_secret_key(text: str) -> bool:
    """True if the text has the form of a secret key and its checksum is right."""
    return _SECRET_KEY.match(text) is not None and _is_intact(text)


def parse_token(text: str) -> KeyPair | None:
    """The key and secret inside a single token, None if it is not one of ours."""
    found = _TOKEN.match(text)
    if found is None or not _is_intact(text):
        return None
    return KeyPair(Secret(_checked(API_KEY_PREFIX + found[1])), Secret(_checked(SECRET_KEY_PREFIX + found[2])))


def digest(key: Secret) -> bytes:
    """What is stored of a key: its SHA-256, 32 bytes."""
    return hashlib.sha256(key.reveal().encode()).digest()


def matches(key: Secret, stored: bytes) -> bool:
    """True if the stored digest is this key's; takes the same time whichever byte differs."""
    return hmac.compare_digest(digest(key), stored)


def _random() -> str:
    return _base62(secrets.randbits(256), _RANDOM)


def _checked(text: str) -> str:
    return text + _base62(zlib.crc32(text.encode()), _CHECK)


def _is_intact(text: str) -> bool:
    return hmac.compare_digest(_checked(text[:-_CHECK]), text)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
