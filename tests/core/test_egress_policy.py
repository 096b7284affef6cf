"""Which addresses and URLs a call may reach: tables of values, no I/O."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.egress import policy
from core.errors import AddressRefused

PORTS = frozenset({443, 8443})


def refusal(address: str, *, scheme: str = "https", port: int = 443, allow: str = "") -> str | None:
    networks = [ip_network(text) for text in allow.split(",") if text]
    return policy.refusal(ip_address(address), scheme=scheme, port=port, networks=networks, ports=PORTS)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_private_and_special_addresses_are_refused(address: str) -> None:
    assert refusal(address) is not None


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "104.18.7.192", "2606:4700::6810:7c0", "2a00:1450::1", "64:ff9b::808:808"]
)
def test_public_addresses_are_allowed_with_https_and_listed_ports_only(address: str) -> None:
    assert refusal(address) is None
    assert refusal(address, port=8443) is None
    assert refusal(address, scheme="http", port=80) is not None
    assert refusal(address, scheme="http", port=443) is not None
    assert refusal(address, port=22) is not None


def test_the_operators_networks_are_allowed_with_http_and_any_port() -> None:
    allow = "127.0.0.0/8,fd00::/8"

    assert refusal("127.0.0.1", scheme="http", port=1234, allow=allow) is None
    assert refusal("::ffff:127.0.0.1", scheme="http", port=1234, allow=allow) is None
    assert refusal("fd00::1", scheme="http", port=80, allow=allow) is None
    assert refusal("10.0.0.1", allow=allow) is not None
    assert refusal("1.1.1.1", scheme="http", port=80, allow=allow) is not None


@given(st.ip_addresses(v=4))
def test_no_disguise_makes_a_private_address_public(address: IPv4Address) -> None:
    inner = int(address)
    allowed = policy.is_public(address)

    for disguise in (0xFFFF << 32 | inner, 0x64FF9B << 96 | inner):
        assert policy.is_public(IPv6Address(disguise)) == allowed
    for never in (inner, 0x2002 << 112 | inner << 80, 0x20010000 << 96 | (inner ^ 0xFFFFFFFF)):
        assert not policy.is_public(IPv6Address(never))


@given(st.ip_addresses(v=6))
def test_a_public_address_is_global_in_pythons_view_too(address: IPv6Address) -> None:
    if policy.is_public(address) and address.ipv4_mapped is None:
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://",
        "https:///path",
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://@example.com/",
        "https://example.com/#fragment",
        "https://example.com/#",
        "https://example.com:0/",
        "https://example.com:/",
        "https://example.com:65536/",
        "https://example.com:x/",
        "https://example.com:٤٤٣/",
        "https://exa mple.com/",
        "https://example.com/a b",
        " https://example.com/",
        "https://example.com/\r\nx: y",
        "https://example.com/\0",
        "https://example.com\\@evil.com/",
        "https://example.com/ü",
        "https://example..com/",
        "https://.example.com/",
        "https://-a.com/",
        "https://a%2eb.com/",
        "https://" + "a" * 64 + ".com/",
        "https://" + "a." * 130 + "com/",
        "https://example.com/" + "a" * 2048,
        "https://127.1/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://127.0.0.01/",
        "https://1.2.3.4.5/",
        "https://256.1.1.1/",
        "https://foo.0x1/",
        "https://１２７.1/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://[v1.a]/",
        "https://\ud800.com/",
    ],
)
def test_a_url_that_two_parsers_may_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        policy.parse(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "authority"),
    [
        ("https://api.openai.com/v1", "api.openai.com", 443, "/v1", "api.openai.com"),
        ("HTTPS://API.OpenAI.com./v1", "api.openai.com", 443, "/v1", "api.openai.com"),
        ("https://a.example:8443?x=1", "a.example", 8443, "/?x=1", "a.example:8443"),
        ("http://127.0.0.1:8080/a%20b?c=d", "127.0.0.1", 8080, "/a%20b?c=d", "127.0.0.1:8080"),
        ("http://simulator:9000/", "simulator", 9000, "/", "simulator:9000"),
        ("https://[2606:4700::0]:443/", "2606:4700::", 443, "/", "[2606:4700::]"),
        ("https://bücher.example/", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
    ],
)
def test_a_url_in_parts(url: str, host: str, port: int, target: str, authority: str) -> None:
    found = policy.parse(url)

    assert (found.host, found.port, found.target, found.authority) == (host, port, target, authority)


def test_fullwidth_digits_are_the_address_they_look_like() -> None:
    assert policy.parse("https://１２７.0.0.1/").address == IPv4Address("127.0.0.1")


@given(st.text(max_size=50) | st.from_regex(r"https?://[^/]{0,30}/?"))
def test_parsing_either_works_or_refuses(url: str) -> None:
    try:
        found = policy.parse(url)
    except AddressRefused:
        return
    assert found.host.isascii()
    assert "@" not in found.authority
    assert found.target.startswith("/")
