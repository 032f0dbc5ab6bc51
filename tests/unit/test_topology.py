"""What `allocation topology` tells of a set of settings."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from allocation.entrypoints.cli import main

SETTINGS = {
    "ALLOCATION_DATABASE_URL": "memory:",
    "ALLOCATION_NAMESPACE": "shop",
    "ALLOCATION_PUBLISH_TO": "memory:",
    "ALLOCATION_RECEIVE_FROM": "kafka://nowhere:9092",
    "ALLOCATION_EVENT_GRID_KEY": "a-secret-of-16-or-more",
    "ALLOCATION_SMTP_URL": "smtp://nowhere",
    "ALLOCATION_STOCK_MAIL": "buyers@made.com",
}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    return CliRunner(env=SETTINGS)


def test_producers_and_routes_are_told_as_they_are_set_up(command: CliRunner) -> None:
    told = json.loads(command.invoke(main, ["topology", "--json"]).output)
    assert [(p["name"], p["runs"]) for p in told["producers"]] == [
        ("HTTP", "allocation serve"),
        ("files", "allocation import"),
        ("Azure Event Grid", "allocation serve"),
        ("kafka", "allocation consumer"),
    ]
    routes = {route["subscription"]: (route["events"], route["place"]) for route in told["routes"]}
    assert routes["publish_facts:memory"] == ("every event", "memory, shop: facts")
    assert routes["send_out_of_stock_notification"] == ("OutOfStock", "mail to buyers@made.com")
    assert routes["count_movements"] == ("every event", "read model in the database")


def test_people_get_tables(command: CliRunner) -> None:
    told = command.invoke(main, ["topology"]).output
    for said in ("shop: commands", "publish_stock_levels:memory", "mail to buyers@made.com", "run by"):
        assert said in told


def test_a_page_of_documentation_gets_a_flowchart(command: CliRunner) -> None:
    first, *lines = command.invoke(main, ["topology", "--mermaid"]).output.splitlines()
    assert first == "flowchart LR"
    assert '  in3["kafka<br/>shop: commands"] --> bus' in lines
    assert any('"OutOfStock" --> ' in line and line.endswith('["mail to buyers@made.com"]') for line in lines)


def test_what_users_have_defined_is_told_without_what_stands_behind_a_host(tmp_path: Path) -> None:
    command = CliRunner(env={**SETTINGS, "ALLOCATION_DATABASE_URL": f"sqlite:///{tmp_path}/allocation.db"})
    defined = {
        "large": {"delivery": "pull", "rules": [{"name": "a", "filter": "qty > 5"}, {"name": "b", "filter": "1=0"}]},
        "shop": {"delivery": "push", "sink": {"url": "https://shop.example.com/a-secret"}},
        "chairs": {"delivery": "pull", "rules": [{"name": "a", "correlation": {"sku": "RED-CHAIR"}}]},
    }
    for name, wanted in defined.items():
        command.invoke(main, ["subscriptions", "define", name, "-"], input=json.dumps(wanted))
    told = command.invoke(main, ["topology", "--json"]).output
    routes = {route["subscription"]: (route["events"], route["place"]) for route in json.loads(told)["routes"]}
    assert routes["large"] == ("qty > 5 or 1=0", "consumers that pull")
    assert routes["chairs"] == ("sku = 'RED-CHAIR'", "consumers that pull")
    assert routes["shop"] == ("every event", "webhook at shop.example.com")
    assert "a-secret" not in told
    assert "qty #gt; 5" in command.invoke(main, ["topology", "--mermaid"]).output
