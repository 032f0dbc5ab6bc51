"""URLs and connection strings of Service Bus: what they say, and which cannot be meant."""

import pytest

from allocation.adapters.brokers.service_bus.address import address_of
from allocation.adapters.brokers.service_bus.provisioning import client_of
from allocation.service_layer.errors import SetupError

SECRET = "s3cret/+="
PORTAL = f"Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={SECRET}"
EMULATOR = "Endpoint=sb://localhost;SharedAccessKeyName=Root;SharedAccessKey=KEY;UseDevelopmentEmulator=true;"


def test_what_a_url_leaves_out_is_as_documented() -> None:
    address = address_of("servicebus://", PORTAL)
    assert (address.sessions, address.patience_seconds, address.socket_seconds) == (8, 10.0, None)
    assert address_of("servicebus:", PORTAL) == address


def test_a_url_may_say_how_it_is_talked_to() -> None:
    address = address_of("servicebus://?sessions=2&patience_seconds=1.5&socket_seconds=0.5&admin_port=5301", EMULATOR)
    assert (address.sessions, address.patience_seconds, address.socket_seconds) == (2, 1.5, 0.5)
    assert address.admin_port == 5301


def test_the_key_is_not_shown() -> None:
    assert SECRET not in repr(address_of("servicebus://", PORTAL))


@pytest.mark.parametrize(
    ("connection", "host", "endpoint"),
    [
        (PORTAL, "shop.servicebus.windows.net", "shop.servicebus.windows.net"),
        (EMULATOR, "localhost", "localhost:5300"),
        (EMULATOR.replace("localhost", "localhost:5673"), "localhost:5673", "localhost:5300"),
    ],
)
def test_clients_go_where_the_connection_string_says(connection: str, host: str, endpoint: str) -> None:
    """The emulator is told what to make on a port of its own."""
    address = address_of("servicebus://", connection)
    assert address.client(1.0).fully_qualified_namespace.rstrip("/") == host
    assert client_of(address).fully_qualified_namespace.rstrip("/") == endpoint


@pytest.mark.parametrize(
    ("url", "connection", "why"),
    [
        ("servicebus://shop.servicebus.windows.net", PORTAL, "write servicebus:// alone"),
        ("servicebus:///facts", PORTAL, "write servicebus:// alone"),
        ("servicebus://", "", "set ALLOCATION_SERVICE_BUS"),
        ("servicebus://", f"nonsense {SECRET}", "is not a connection string"),
        ("servicebus://", f"SharedAccessKeyName=Root;SharedAccessKey={SECRET}", "is not a connection string"),
        ("servicebus://", f"{PORTAL};EntityPath=queue", "names one entity"),
        ("servicebus://?sessions=0", PORTAL, "sessions must be a number from 1 to 100"),
        ("servicebus://?sessions=1.5", PORTAL, "sessions must be a number"),
        ("servicebus://?patience_seconds=nan", PORTAL, "patience_seconds must be a number"),
        ("servicebus://?shards=4", PORTAL, "there is no option shards"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_start(url: str, connection: str, why: str) -> None:
    with pytest.raises(SetupError, match=why) as refused:
        address_of(url, connection)
    assert SECRET not in str(refused.value)
