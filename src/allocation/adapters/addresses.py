"""Which addresses this service connects to when others name the host: those of the public internet.

A subscriber names where to push, and must not reach through us what only we can reach: loopback, the private networks
around us, the metadata services of clouds. The name alone does not show this, so the address that is connected to is
checked (see `guarded`).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

GLOBAL_UNICAST, NAT64 = IPv6Network("2000::/3"), IPv6Network("64:ff9b::/96")
NOT_PUBLIC: tuple[Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # Azure's own services for a machine, among public addresses
    IPv4Network("192.0.0.0/24"),  # IETF protocols; Oracle's metadata service
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, and below 6to4 itself: it leads to whatever it embeds
    IPv6Network("2002::/16"),
    IPv6Network("3fff::/20"),  # documentation, which this Python may not know yet
)


@dataclass(frozen=True, slots=True)
class Reachable:
    """Public addresses, and those in `networks`."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, setting: str) -> Reachable:
        """From `false` (or nothing), `true` (everything), or networks separated by spaces or commas. Raises
        `ValueError`, which names the part that is not a network."""
        match setting.strip().lower():
            case "" | "false":
                return cls()
            case "true":
                return cls((IPv4Network("0.0.0.0/0"), IPv6Network("::/0")))
            case listed:
                return cls(tuple(ip_network(part) for part in listed.replace(",", " ").split()))

    def securely(self, address: str) -> bool:
        """Whether to connect there with TLS."""
        found = _meant(address)
        return found is not None and (self._lists(found) or _is_public(found))

    def plainly(self, address: str) -> bool:
        """Whether to connect there without TLS: only where a setting says so."""
        found = _meant(address)
        return found is not None and self._lists(found)

    def _lists(self, address: Address) -> bool:
        return any(address in network for network in self.networks if network.version == address.version)


def _meant(address: str) -> Address | None:
    """The address; for an IPv6 form of an IPv4 address (mapped, NAT64), the IPv4 address. None if it is not an address,
    or has a scope."""
    try:
        found = ip_address(address)
    except ValueError:
        return None
    if isinstance(found, IPv4Address):
        return found
    if found.scope_id is not None:
        return None
    if found in NAT64:
        return IPv4Address(int(found) & 0xFFFF_FFFF)
    return found.ipv4_mapped or found


def _is_public(address: Address) -> bool:
    """Not public are: loopback, private, link-local (metadata services), unique local, shared, multicast, reserved."""
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    listed = any(address in network for network in NOT_PUBLIC if network.version == address.version)
    return address.is_global and not address.is_multicast and not address.is_reserved and not listed
