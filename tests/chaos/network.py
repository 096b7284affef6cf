"""Hosts on one machine: network namespaces on a bridge, each with an address, a loopback and a cable of its own.

No packet leaves the machine: the bridge has no other port, and nothing is forwarded.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess

#: Networks of this process, each with a name of its own.
_numbers = itertools.count()


class Network:
    """A bridge in the namespace we are in, which has the first address, and the hosts that were added to it."""

    def __init__(self) -> None:
        self._id = f"lc{os.getpid() % 100_000}{next(_numbers)}"
        self._prefix = _free_prefix()
        #: ours, for what all hosts share
        self.address = f"{self._prefix}.1"
        self.subnet = f"{self._prefix}.0/24"
        self._hosts: dict[str, int] = {}
        self._bridge = f"{self._id}b"
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")

    def add(self, host: str) -> str:
        """Make a host; its address."""
        number = self._hosts[host] = len(self._hosts) + 2
        name, cable = self._namespace(host), self._cable(host)
        _ip("netns", "add", name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", self._bridge)
        _ip("-n", name, "addr", "add", f"{self.address_of(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        self.join(host)
        return f"{self._prefix}.{number}"

    def address_of(self, host: str) -> str:
        return f"{self._prefix}.{self._hosts[host]}"

    def within(self, host: str) -> list[str]:
        """The command that runs its arguments on a host."""
        return ["ip", "netns", "exec", self._namespace(host)]

    def cut(self, host: str) -> None:
        """Pull the cable: nothing arrives and nobody is told."""
        _ip("link", "set", self._cable(host), "down")

    def join(self, host: str) -> None:
        """Plug it in again."""
        _ip("link", "set", self._cable(host), "up")

    def close(self) -> None:
        """Remove everything; the processes on the hosts have ended."""
        for host in self._hosts:
            _ip("netns", "del", self._namespace(host), check=False)
            _ip("link", "del", self._cable(host), check=False)
        _ip("link", "del", self._bridge, check=False)

    def _namespace(self, host: str) -> str:
        return f"{self._id}-{host}"

    def _cable(self, host: str) -> str:
        # A device's name has fifteen characters at the most.
        return f"{self._id}h{self._hosts[host]}"


def permitted() -> str | None:
    """None if hosts can be made here; else why not."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"lc{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", f"lc{os.getpid() % 100_000}p", "type", "veth", "peer", "name", "eth0", "netns", name)
    except FileNotFoundError:
        return "the program ip is missing: apt install iproute2"
    except subprocess.CalledProcessError as error:
        return f"network namespaces are not permitted here: {error.stderr.decode().strip()}"
    finally:
        if os.path.exists(f"/run/netns/{name}"):
            _ip("netns", "del", name, check=False)
    return None


def _free_prefix() -> str:
    """Three numbers of a private network that no interface of this machine is in."""
    taken = {
        address["local"].rpartition(".")[0]
        for link in json.loads(_ip("-j", "-4", "addr", "show"))
        for address in link.get("addr_info", [])
    }
    return next(prefix for n in range(256) if (prefix := f"10.231.{n}") not in taken)


def _ip(*arguments: str, check: bool = True) -> bytes:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True).stdout
