"""Which addresses a call may reach: functions of values, with no I/O.

Python's `is_global` is True for several addresses that lead inside (NAT64 of a private address, 6to4, site-local,
some multicast, Azure's 168.63.129.16), so the special sets are named here. Source: the IANA registries of special
IPv4 and IPv6 addresses (RFC 6890 and its updates).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

import idna

from core.errors import AddressRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL_LENGTH = 2048

_REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, ORCHID, benchmarking
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",
        "3fff::/20",
        "3ffe::/16",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")
_BRACKETED = re.compile(r"\[[^\[\]]+\](?::[0-9]+)?\Z")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")


@dataclass(frozen=True, slots=True)
class Url:
    """A checked URL in parts. `host` is lower-case ASCII without brackets; `address` is set when it is a literal."""

    scheme: str
    host: str
    port: int
    target: str
    address: Address | None

    @property
    def authority(self) -> str:
        """The value of the Host header: the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


@lru_cache(maxsize=4096)
def parse(url: str) -> Url:
    """A URL in parts, or a clear refusal of anything that two parsers could read in two ways.

    Raises
    ------
    AddressRefused
        Not http or https, with user name, fragment or control characters, too long, or an IP address in an unusual
        spelling (`127.1`, `0x7f.1`, `2130706433`), which getaddrinfo would accept.
    """
    if len(url) > MAX_URL_LENGTH:
        raise AddressRefused(f"The URL is longer than {MAX_URL_LENGTH} characters.")
    if _UNSAFE.search(url):
        raise AddressRefused("The URL contains a space, a control character or a backslash.")
    if "#" in url:
        raise AddressRefused("The URL has a fragment (#...); remove it.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AddressRefused("The URL is not valid: its host or port cannot be read.") from None
    if parts.scheme not in ("http", "https"):
        raise AddressRefused("The URL must start with https://.")
    if "@" in parts.netloc:
        raise AddressRefused("The URL contains a user name or password; remove it.")
    if port == 0 or parts.netloc.endswith(":"):
        raise AddressRefused("The URL's port is not valid.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii():
        raise AddressRefused("The URL's path contains characters that must be percent-encoded.")
    bracketed = "[" in parts.netloc
    if bracketed and not _BRACKETED.match(parts.netloc):
        # urlsplit passes over what stands between the bracket and the colon.
        raise AddressRefused("The URL's host is not valid.")
    host, address = _host(parts.hostname or "", bracketed=bracketed)
    return Url(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), target, address)


def _host(text: str, *, bracketed: bool) -> tuple[str, Address | None]:
    if bracketed:
        try:
            v6 = IPv6Address(text)
        except ValueError:
            raise AddressRefused("The URL's IPv6 address is not valid.") from None
        if v6.scope_id is not None:
            raise AddressRefused("The URL's IPv6 address names an interface of this machine (%...).")
        return str(v6), v6
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise AddressRefused("The URL's host is not a valid internationalised name.") from None
    host = text.lower().removesuffix(".")
    labels = host.split(".")
    if _NUMBER.match(labels[-1]):
        try:
            return host, IPv4Address(host)
        except ValueError:
            raise AddressRefused("The URL's host is a number; write an IPv4 address as four decimals.") from None
    if not host or len(host) > 253 or not all(_LABEL.match(label) for label in labels):
        raise AddressRefused("The URL's host is not a valid name.")
    return host, None


def is_public(address: Address) -> bool:
    """True for an address on the open internet: not private, not special, and not such a one in disguise."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _REFUSED_V4)
    inner = _inner(address)
    if inner is not address:
        return is_public(inner)
    return address in _GLOBAL_V6 and address.is_global and not any(address in network for network in _REFUSED_V6)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped or NAT64 address leads to; any other address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def refusal(
    address: Address, *, scheme: str, port: int, networks: Iterable[Network], ports: frozenset[int]
) -> str | None:
    """Why a call may not go to this address, in a sentence for the tenant; None when it may.

    `networks` is the operator's allow-list: there plain http and any port are allowed. Elsewhere the address has to
    be public, the scheme https, and the port one of `ports`.
    """
    inner = _inner(address)
    if any(inner in network or address in network for network in networks):
        return None
    if not is_public(address):
        return "The address is private or special, and the operator of this service has not allowed it."
    if scheme != "https":
        return "Only https is allowed for public addresses."
    if port not in ports:
        return f"Port {port} is not allowed; allowed are {', '.join(map(str, sorted(ports)))}."
    return None


def literal(text: str) -> Address:
    """An address as the resolver gives it, its interface (`%eth0`) taken off."""
    return ip_address(text.partition("%")[0])
