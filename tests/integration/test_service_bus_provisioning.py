"""What is asked of Service Bus's administration: the bytes that the real client writes, from our rules.

That these bytes are those that Azure wants is the client's business. That the peer's subscriptions let the right things
through is no evidence: it evaluates rules with our own code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from allocation.adapters.brokers import service_bus
from allocation.bootstrap import rule_parser
from allocation.entrypoints.cli import main
from allocation.entrypoints.provisioning import subscriptions_in
from allocation.service_layer.broker import FACTS, Message
from allocation.service_layer.errors import Rejected, SetupError, Unavailable
from tests.fakes import NOON
from tests.integration.service_bus_tools import Bus
from tests.servers.process import free_port
from tests.servers.service_bus import PrivateServiceBus
from tests.servers.service_bus.admin import Admin, Request
from tests.servers.service_bus.store import Store

CONNECTION = (
    "Endpoint=sb://127.0.0.1;SharedAccessKeyName=Root;SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
)
BEGIN = (
    "<?xml version='1.0' encoding='utf-8'?>\n"
    '<ns0:entry xmlns:ns0="http://www.w3.org/2005/Atom" '
    'xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect"{}><ns0:content type="application/xml">'
)
INSTANCE = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
END = "</ns0:content></ns0:entry>"
SQL = "<CompatibilityLevel>20</CompatibilityLevel><RequiresPreprocessing>true</RequiresPreprocessing>"


def entry(described: str) -> str:
    return BEGIN.format("") + described + END


def rule_entry(described: str) -> str:
    return BEGIN.format(INSTANCE) + f"<RuleDescription>{described}</RuleDescription>" + END


def typed(kind: str, value: object) -> str:
    return f'<Value xsi:type="d6p1:{kind}" xmlns:d6p1="http://www.w3.org/2001/XMLSchema">{value}</Value>'


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Admin]:
    serving = Admin(0, Store(tmp_path / "journal", time.time))
    yield serving
    serving.close()


def provision(admin: Admin, text: str = "{}") -> list[str]:
    """What was said of each step; the administration hears of nothing that was before."""
    admin.requests.clear()
    provisioner = service_bus.provisioner(f"servicebus://?admin_port={admin.port}", "shop", CONNECTION)
    return list(provisioner.provision(subscriptions_in(text.encode(), rule_parser())))


def bodies(admin: Admin) -> dict[str, str]:
    return {request.path: request.body.decode() for request in admin.requests if request.method == "PUT"}


def test_our_queue_and_topics_are_made(admin: Admin) -> None:
    assert provision(admin) == [
        "queue shop.commands: created",
        "topic shop.facts: created",
        "topic shop.stock_level: created",
    ]
    window = "<DuplicateDetectionHistoryTimeWindow>PT10M</DuplicateDetectionHistoryTimeWindow>"
    topic = (
        f"<TopicDescription><RequiresDuplicateDetection>true</RequiresDuplicateDetection>{window}</TopicDescription>"
    )
    assert bodies(admin) == {
        "shop.commands": entry(
            "<QueueDescription><LockDuration>PT1M</LockDuration>"
            "<RequiresDuplicateDetection>true</RequiresDuplicateDetection><RequiresSession>true</RequiresSession>"
            f"<DeadLetteringOnMessageExpiration>true</DeadLetteringOnMessageExpiration>{window}"
            "<MaxDeliveryCount>1000</MaxDeliveryCount></QueueDescription>"
        ),
        "shop.facts": entry(topic),
        "shop.stock_level": entry(topic),
    }


def test_a_subscription_has_our_rules_word_for_word_and_no_default(admin: Admin) -> None:
    said = provision(
        admin,
        """{"big": {"rules": {
            "large": {"filter": "qty >= 100 AND sku LIKE '<&%'", "action": "SET priority = 1; REMOVE eta"},
            "chairs": {"filter": {"sku": "RED-CHAIR", "qty": 3, "big": 4000000000, "ratio": 1.5, "ok": true,
                                  "sys.Subject": "Allocated", "sys.CorrelationId": "c-1"}}}}}""",
    )
    assert said[3:] == [
        "subscription shop.facts/big: created",
        "rule large of shop.facts/big: created",
        "rule chairs of shop.facts/big: created",
        "rule $Default of shop.facts/big: removed",
    ]
    pairs = "".join(
        f"<KeyValueOfstringanyType><Key>{name}</Key>{value}</KeyValueOfstringanyType>"
        for name, value in (
            ("sku", typed("string", "RED-CHAIR")),
            ("qty", typed("int", 3)),
            ("big", typed("long", 4_000_000_000)),
            ("ratio", typed("double", 1.5)),
            ("ok", typed("boolean", "true")),
        )
    )
    place = "shop.facts/subscriptions/big"
    told = bodies(admin)
    assert told[place] == entry(
        "<SubscriptionDescription><LockDuration>PT1M</LockDuration><RequiresSession>true</RequiresSession>"
        "<DeadLetteringOnMessageExpiration>true</DeadLetteringOnMessageExpiration>"
        "<DeadLetteringOnFilterEvaluationExceptions>true</DeadLetteringOnFilterEvaluationExceptions>"
        "</SubscriptionDescription>"
    )
    assert told[f"{place}/rules/large"] == rule_entry(
        "<Filter xsi:type=\"SqlFilter\"><SqlExpression>qty &gt;= 100 AND sku LIKE '&lt;&amp;%'</SqlExpression>"
        f'{SQL}</Filter><Action xsi:type="SqlRuleAction"><SqlExpression>SET priority = 1; REMOVE eta</SqlExpression>'
        f"{SQL}</Action><Name>large</Name>"
    )
    assert told[f"{place}/rules/chairs"] == rule_entry(
        '<Filter xsi:type="CorrelationFilter"><CorrelationId>c-1</CorrelationId><Label>Allocated</Label>'
        f'<Properties>{pairs}</Properties></Filter><Action xsi:type="EmptyRuleAction" /><Name>chairs</Name>'
    )
    assert [(request.method, request.path) for request in admin.requests[3:]] == [
        ("PUT", place),
        ("GET", f"{place}/rules"),
        ("PUT", f"{place}/rules/large"),
        ("PUT", f"{place}/rules/chairs"),
        ("DELETE", f"{place}/rules/$Default"),
    ]


def test_again_nothing_is_changed_but_what_is_said_differently(admin: Admin) -> None:
    first = '{"big": {"rules": {"a": {"filter": "qty > 1"}, "b": {"filter": {"qty": 2}}, "c": {"filter": "qty > 3"}}}}'
    provision(admin, first)
    assert {step.rpartition(": ")[2] for step in provision(admin, first)} == {"exists already"}
    said = provision(admin, '{"big": {"rules": {"a": {"filter": "qty > 1"}, "b": {"filter": {"qty": 4}}}}}')
    assert said[4:] == [
        "rule a of shop.facts/big: exists already",
        "rule b of shop.facts/big: changed",
        "rule c of shop.facts/big: removed",
    ]


@pytest.mark.parametrize(("was", "now"), [("1", "true"), ("10", "10.0"), ("0.0", "false")])
def test_a_value_of_another_kind_is_said_differently(admin: Admin, was: str, now: str) -> None:
    file = '{"big": {"rules": {"a": {"filter": {"urgent": VALUE}}}}}'
    said = [provision(admin, file.replace("VALUE", value))[-1] for value in (was, was, now)]
    assert said[1:] == ["rule a of shop.facts/big: exists already", "rule a of shop.facts/big: changed"]
    assert f">{now}</Value>" in bodies(admin)["shop.facts/subscriptions/big/rules/a"]


@pytest.mark.parametrize("name", ["sys.Subject", "sys.subject", "sys.Label", "SYS.Subject", "Sys.LABEL"])
def test_a_system_property_is_meant_however_it_is_spelled(admin: Admin, name: str) -> None:
    provision(admin, f'{{"big": {{"rules": {{"a": {{"filter": {{"{name}": "Allocated"}}}}}}}}}}')
    told = bodies(admin)["shop.facts/subscriptions/big/rules/a"]
    assert '<Filter xsi:type="CorrelationFilter"><Label>Allocated</Label></Filter>' in told


def test_a_filter_of_one_form_becomes_one_of_the_other(admin: Admin) -> None:
    for filter, told in (
        ('"qty > 1"', "<SqlExpression>qty &gt; 1</SqlExpression>"),
        ('{"qty": 2}', typed("int", 2)),
        ('"qty > 3"', "<SqlExpression>qty &gt; 3</SqlExpression>"),
    ):
        provision(admin, f'{{"big": {{"rules": {{"a": {{"filter": {filter}}}}}}}}}')
        assert told in bodies(admin)["shop.facts/subscriptions/big/rules/a"]


def test_a_subscription_that_loses_its_rules_gets_everything(admin: Admin) -> None:
    provision(admin, '{"big": {"rules": {"a": {"filter": "qty > 1"}}}}')
    said = provision(admin, '{"big": {"by_sku": false}}')
    assert said[4:] == ["rule $Default of shop.facts/big: created", "rule a of shop.facts/big: removed"]
    assert "<SqlExpression>1=1</SqlExpression>" in bodies(admin)["shop.facts/subscriptions/big/rules/$Default"]


def test_requests_are_signed_and_the_key_stays_here(admin: Admin) -> None:
    provision(admin)
    request: Request = admin.requests[0]
    assert request.authorization.startswith("SharedAccessSignature sr=")
    assert "SAS_KEY_VALUE" not in request.authorization


def test_an_administration_that_is_away_is_told_so() -> None:
    url = f"servicebus://?patience_seconds=1&admin_port={free_port()}"
    with pytest.raises(Unavailable, match=r"does not answer for queue shop\.commands"):
        list(service_bus.provisioner(url, "shop", CONNECTION).provision([]))


def test_what_service_bus_will_not_have_is_told_with_its_words(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b"<Error><Code>400</Code><Detail>SubCode=40000. The name is no good.</Detail></Error>"
    monkeypatch.setattr(admin, "answer", lambda *_: (400, refusal))
    with pytest.raises(Rejected, match=r"rejected queue shop\.commands: SubCode=40000\. The name is no good\."):
        provision(admin)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "cannot be read: Expected `object`"),
        ('{"a": {"rule": {}}}', "cannot be read: Object contains unknown field `rule`"),
        ('{"a b": {}}', "cannot be read"),
        ('{"a": {"topic": "commands"}}', "Subscription a: there is no topic commands"),
        ('{"a": {"rules": {"r": {"filter": "qty >"}}}}', "Subscription a, rule r: At character 6"),
        ('{"a": {"rules": {"r": {"filter": {}}}}}', "rule r: a correlation filter names no property"),
        ('{"a": {"rules": {"r": {"filter": {"sys.Colour": "x"}}}}}', r"rule r: a correlation filter cannot look at"),
        ('{"a": {"rules": {"r": {"filter": {"SYS.Colour": "x"}}}}}', r"rule r: a correlation filter cannot look at"),
        ('{"a": {"rules": {"r": {"filter": {"sys.Label": "x", "sys.Subject": "y"}}}}}', "sys.Subject to equal two"),
        ('{"a": {"rules": {"r": {"filter": {"qty": 9223372036854775808}}}}}', "cannot be read: Expected `int` <="),
        ('{"a": {"rules": {"r": {"filter": {"qty": -9223372036854775809}}}}}', "cannot be read: Expected `int` >="),
        ('{"a": {"rules": {"r": {"action": "SET a"}}}}', "Subscription a, rule r"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_before_anything_is_made(text: str, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        subscriptions_in(text.encode(), rule_parser())


def test_by_the_command_line_and_then_a_subscription_gets_what_its_rules_want(
    service_bus: PrivateServiceBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus(service_bus)
    monkeypatch.chdir(tmp_path)
    Path("subscriptions.json").write_text(
        '{"large": {"rules": {"plain": {"filter": "qty >= 100"},'
        ' "marked": {"filter": {"sku": "RED-CHAIR"}, "action": "SET colour = \'red\'"}}}}'
    )
    environment = {
        "ALLOCATION_PUBLISH_TO": f"servicebus://?admin_port={service_bus.admin_port}",
        "ALLOCATION_SERVICE_BUS": service_bus.connection_string,
        "ALLOCATION_NAMESPACE": bus.namespace,
    }
    done = CliRunner(env=environment).invoke(main, ["topology", "provision", "subscriptions.json"])
    assert done.exit_code == 0, done.output
    assert f"subscription {bus.namespace}.facts/large: created" in done.output
    facts = [
        Message(f"{sku}-{qty}", "allocation.Allocated", sku, NOON, {"sku": sku, "qty": qty})
        for sku in ("RED-CHAIR", "LAMP")
        for qty in (5, 500)
    ]
    assert not any(bus.publisher().publish(FACTS, facts))
    facts_told = bus.told(FACTS, 4, "large")
    told = [(fact.id, fact.properties.get("RuleName"), fact.properties.get("colour")) for fact in facts_told]
    assert sorted(told, key=str) == [
        ("LAMP-500", None, None),
        ("RED-CHAIR-5", "marked", "red"),
        ("RED-CHAIR-500", "marked", "red"),
        ("RED-CHAIR-500", None, None),
    ]
    bus.close()


def test_where_no_service_bus_is_named_the_command_says_what_to_set() -> None:
    done = CliRunner(env={"ALLOCATION_PUBLISH_TO": "memory:"}).invoke(main, ["topology", "provision"])
    assert done.exit_code == 1
    assert "has to name servicebus://" in done.output
