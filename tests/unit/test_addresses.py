"""Which addresses a stranger may have us connect to."""

import pytest

from allocation.adapters.addresses import Reachable
from allocation.config import load_settings
from allocation.service_layer.errors import SetupError

PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
PRIVATE = {
    "this host": ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.8.9.10", "::", "::1", "::7f00:1", "::ffff:127.0.0.1"],
    "private networks": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::ffff:10.0.0.1", "100.64.0.1"],
    "link-local": ["169.254.0.1", "169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1"],
    "unique local": ["fc00::1", "fd00::1"],
    "metadata services": ["168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"],
    "leading elsewhere": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "192.88.99.1"],
    "many at once": ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1", "ff0e::1"],
    "for no such use": ["192.0.2.1", "198.18.0.1", "203.0.113.9", "240.0.0.1", "100::1", "2001::1", "2001:db8::1"],
    "reserved": ["3fff::1", "5f00::1"],
    "no addresses": ["localhost", "example.com", ""],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached_with_tls_only(address: str) -> None:
    assert Reachable().securely(address)
    assert not Reachable().plainly(address)


@pytest.mark.parametrize("kind", PRIVATE)
def test_whatever_is_not_public_is_not_reached(kind: str) -> None:
    for address in PRIVATE[kind]:
        assert not Reachable.of("false").securely(address), address
        assert not Reachable.of("").plainly(address), address


def test_networks_may_be_allowed() -> None:
    reachable = Reachable.of("10.1.0.0/16, fd12::/16 127.0.0.1")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::7", "127.0.0.1"):
        assert reachable.securely(address)
        assert reachable.plainly(address)
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "fd13::7", "127.0.0.2", "::1"):
        assert not reachable.securely(address)
    assert reachable.securely("1.1.1.1")
    assert not reachable.plainly("1.1.1.1")


def test_everything_may_be_allowed() -> None:
    reachable = Reachable.of("true")
    for address in ("127.0.0.1", "::1", "169.254.169.254", "1.1.1.1"):
        assert reachable.securely(address)
        assert reachable.plainly(address)


@pytest.mark.parametrize("wrong", ["yes", "10.0.0.1/8", "10.0.0.0/33", "example.com"])
def test_a_setting_that_names_no_network_is_wrong(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Reachable.of(wrong)


def test_the_setting_is_checked_at_the_start() -> None:
    with pytest.raises(SetupError, match=r"PUSH_TO_PRIVATE is wrong: write true, false, or networks"):
        load_settings(database_url="memory:", push_to_private="10.0.0.1/8")
