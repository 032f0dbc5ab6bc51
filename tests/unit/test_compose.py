"""docker-compose.yml: its settings can be meant, and what it invites to start several times may be."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from allocation.adapters.brokers import registry
from allocation.config import PREFIX, Settings, load_settings

FILE = Path(__file__).parents[2] / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
OURS = sorted(name for name, service in SERVICES.items() if service.get("image") == "allocation")
CONSUMERS = [name for name in OURS if SERVICES[name].get("command") == ["allocation", "consumer"]]


def settings_of(service: str) -> Settings:
    environment = SERVICES[service]["environment"]
    ours = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)}
    return load_settings(**ours)


@pytest.mark.parametrize("service", OURS)
def test_each_service_has_settings_that_can_be_meant(service: str) -> None:
    assert settings_of(service).database_url.startswith("postgresql")


def test_a_broker_that_tells_every_listener_everything_has_one_listener() -> None:
    """Else each message is handled as often as somebody listens: without an id of its own it has its effect twice."""
    received = []
    for service in CONSUMERS:
        receivers = registry.receivers(settings_of(service).receive_from, "shop", "me")
        received += receivers
        if not all(receiver.capabilities.acknowledged for receiver in receivers.values()):
            assert SERVICES[service]["deploy"]["replicas"] == 1
            assert len(receivers) == 1, "what could be shared cannot be here"
    assert sorted(received) == ["redis+pubsub", "redis+streams"]
