"""The copies that rules make: which, how many, and what is changed on them."""

from datetime import UTC, date, datetime

import pytest

from allocation.adapters.rule_parser import LarkRuleParser
from allocation.domain.errors import Available
from allocation.domain.events import Allocated, BatchCreated
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.facts import fact_of, level_message
from allocation.service_layer.read_models import StockLevel
from allocation.service_layer.rules.copies import copies_of
from allocation.service_layer.rules.of_messages import properties_of
from allocation.service_layer.rules.rule import DEFAULT, Rule, apply_rules, correlation_filter, explain, scoped
from allocation.service_layer.rules.values import BadRule, Properties, RuleFailed, Value
from tests.fakes import NOON, CountingIds

PARSER = LarkRuleParser(CountingIds())


def order(**more: Value) -> Properties:
    """Ten red chairs."""
    user = {"sku": "RED-CHAIR", "Qty": 10, "colour": "red", **more}
    return Properties(user, {"MessageId": "id-1", "Subject": "Allocated", "CorrelationId": "high"})


def rule(name: str, filter: str, action: str | None = None) -> Rule:
    return Rule(name, PARSER.filter(filter), None if action is None else PARSER.action(action))


def changed(action: str, properties: Properties | None = None) -> dict[str, Value]:
    """The user properties after an action, and the system properties as sys.NAME."""
    copy = PARSER.action(action)(properties or order())
    return copy.named() | {f"sys.{name}": value for name, value in copy.system.items()}


# --- copies -----------------------------------------------------------------------------------------------------------


def test_the_default_rule_lets_everything_through_unchanged() -> None:
    [copy] = apply_rules([DEFAULT], order())
    assert copy.named() == order().named()
    assert DEFAULT.name == "$Default"


def test_three_plain_rules_and_two_with_actions_that_all_match_make_three_copies() -> None:
    rules = [
        rule("plain-1", "1=1"),
        rule("twice", "qty = 10", "SET qty = qty * 2"),
        rule("plain-2", "colour = 'red'"),
        rule("less", "sku LIKE 'RED-%'", "SET qty = qty - 1; REMOVE colour"),
        rule("plain-3", "qty > 5"),
    ]
    assert [copy.named() for copy in apply_rules(rules, order())] == [
        {"sku": "RED-CHAIR", "Qty": 10, "colour": "red"},
        {"sku": "RED-CHAIR", "Qty": 20, "colour": "red", "RuleName": "twice"},
        {"sku": "RED-CHAIR", "Qty": 9, "RuleName": "less"},
    ]


@pytest.mark.parametrize(
    ("filters", "copies"),
    [
        ([], 0),
        (["1=0"], 0),
        (["weight > 5"], 0),  # UNKNOWN
        (["NOT weight > 5"], 0),
        (["1=0", "weight > 5", "qty = 10"], 1),
    ],
)
def test_only_true_matches(filters: list[str], copies: int) -> None:
    rules = [rule(f"rule-{n}", text) for n, text in enumerate(filters)]
    assert len(apply_rules(rules, order())) == copies
    acting = [rule(f"rule-{n}", text, "SET a = 1") for n, text in enumerate(filters)]
    assert len(apply_rules(acting, order())) == copies


def test_the_message_itself_and_the_other_copies_stay_as_they_were() -> None:
    properties = order()
    first, second = apply_rules(
        [
            rule("a", "1=1", "SET sys.To = 'a'; SET colour = 'a'"),
            rule("b", "colour = 'red' AND sys.To IS NULL", "REMOVE colour"),
        ],
        properties,
    )
    assert (first.user["colour"], first.system["To"]) == ("a", "a")
    assert "colour" not in second.user
    assert second.system.get("To") is None
    assert properties.named() == order().named()
    assert properties.system == order().system


def test_a_rule_that_cannot_be_worked_out_is_named() -> None:
    for broken in (rule("broken", "qty / 0 = 1"), rule("broken", "1=1", "SET x = qty / 0")):
        with pytest.raises(RuleFailed, match="Rule broken: 10 is divided by zero"):
            apply_rules([broken, DEFAULT], order())


def test_a_plain_rule_behind_one_that_matched_is_not_looked_at() -> None:
    assert len(apply_rules([DEFAULT, rule("broken", "qty / 0 = 1")], order())) == 1


@pytest.mark.parametrize("name", ["", "x" * 51])
def test_a_name_that_service_bus_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(BadRule, match="1 to 50 characters"):
        Rule(name, DEFAULT.filter)


# --- actions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "name", "value"),
    [
        ("SET size = 'big'", "size", "big"),
        ("SET QTY = 1", "Qty", 1),  # which keeps its spelling
        ("SET user.Qty = qty / 4", "Qty", 2),
        ("SET [unit price] = qty / 4.0", "unit price", 2.5),
        ("SET a = 1; SET b = a + 1", "b", 2),
        ("SET a = 1, SET b = a + 1", "b", 2),
        ("SET a = 1;, set b = a + 1;", "b", 2),
        ("SET a = weight + 1", "a", None),
        ("SET Qty = NULL", "Qty", None),
        ("SET Qty = 'many'", "Qty", "many"),
        ("SET a = property('qty')", "a", 10),
        ("SET sys.Label = 'x' + NULL", "sys.Subject", None),
        ("SET sys.To = sku", "sys.To", "RED-CHAIR"),
        ("SET sys.label = 'Chosen'", "sys.Subject", "Chosen"),
        ("REMOVE sys.CorrelationId", "sys.CorrelationId", None),
    ],
)
def test_set_changes_the_copy(action: str, name: str, value: Value) -> None:
    after = changed(action)
    assert name in after
    assert after[name] == value
    assert type(after[name]) is type(value)


def test_an_integer_becomes_a_double_where_one_is() -> None:
    after = changed("SET price = 3; SET Qty = 3", order(price=2.5))
    assert repr(after["price"]) == "3.0"
    assert repr(after["Qty"]) == "3"


def test_remove_takes_a_property_away_in_whatever_case() -> None:
    after = changed("REMOVE qTY; REMOVE user.colour; REMOVE weight")
    assert {name for name in after if not name.startswith("sys.")} == {"sku"}


def test_a_new_id_is_minted_for_each_copy() -> None:
    action = PARSER.action("SET ticket = newid()")
    one, other = (action(order()).user["ticket"] for _ in range(2))
    assert one != other
    assert len(str(one)) == 36


@pytest.mark.parametrize(
    ("action", "place", "said"),
    [
        ("", 1, "expected REMOVE or SET. Write a statement"),
        ("qty = 5", 1, "expected REMOVE or SET"),
        ("SET qty", 8, "expected ="),
        ("SET qty = 1 SET a = 2", 13, "expected"),
        ("SET qty = 1;; SET a = 2", 13, "expected"),
        ("SET qty = (a = 1)", 14, "expected"),
        ("SET sys.EnqueuedTimeUtc = 'now'", 5, "is set by the broker"),
        ("REMOVE sys.Size", 12, "messages have no system property Size"),
        ("SET a = '" + "x" * 1020 + "'", 1025, "1,030 characters"),
        ("SET a = 1;" * 33, 321, "the action has 33 statements. It may have at most 32"),
    ],
)
def test_what_is_no_action_is_refused_with_its_place(action: str, place: int, said: str) -> None:
    with pytest.raises(BadRule) as refused:
        PARSER.action(action)
    assert said in str(refused.value)
    assert refused.value.position == place - 1


def test_the_limits_are_those_of_service_bus() -> None:
    assert changed("SET a = 1;" * 32)["a"] == 1
    text = "SET a = '" + "x" * 1014 + "'"
    assert len(text) == 1024
    assert changed(text)["a"] == "x" * 1014


def test_a_system_property_takes_texts_only() -> None:
    with pytest.raises(RuleFailed, match=r"sys\.To needs a text, but 10 is a number"):
        changed("SET sys.To = qty")


# --- correlation filters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "system", "matches"),
    [
        ({"colour": "red"}, {}, True),
        ({"COLOUR": "red"}, {}, True),
        ({"colour": "Red"}, {}, False),
        ({"colour": "red", "qty": 10}, {"label": "Allocated", "CorrelationId": "high"}, True),
        ({"colour": "red", "qty": 11}, {}, False),
        ({"qty": "10"}, {}, False),
        ({"qty": 10.0}, {}, False),
        ({"weight": 1}, {}, False),
        ({}, {"MessageId": "id-1"}, True),
        ({}, {"To": "x"}, False),
    ],
)
def test_a_correlation_filter_is_equal_to_all_of_it(
    user: dict[str, Value], system: dict[str, str], matches: bool
) -> None:
    assert correlation_filter(user, system)(order()) is matches


@pytest.mark.parametrize(
    ("user", "system"), [({}, {}), ({}, {"EnqueuedTimeUtc": "x"}), ({}, {"Body": "x"}), ({"x": None}, {})]
)
def test_a_correlation_filter_of_nothing_is_refused(user: dict[str, Value], system: dict[str, str]) -> None:
    with pytest.raises(BadRule, match="a correlation filter"):
        correlation_filter(user, system)


def test_a_correlation_filter_as_it_is_written_means_system_properties_in_any_case() -> None:
    written: list[tuple[str, Value]] = [
        ("Qty", 10),
        ("SYS.label", "Allocated"),
        ("sys.CORRELATIONID", 7),
        ("system", True),
    ]
    user, system = scoped(written)
    assert (user, system) == ({"Qty": 10, "system": True}, {"Subject": "Allocated", "CorrelationId": "7"})
    assert scoped([("sys.Label", "x"), ("sys.Subject", "x")]) == ({}, {"Subject": "x"})


def test_a_system_property_that_is_to_equal_two_values_is_refused() -> None:
    with pytest.raises(BadRule, match=r"requires sys\.Subject to equal two values"):
        scoped([("sys.Label", "x"), ("sys.subject", "y")])


def test_the_text_of_a_correlation_filter_is_the_same_filter() -> None:
    made = correlation_filter({"colour": "red", "a]b": "it's"}, {"Subject": "Allocated"})
    properties = order(**{"a]b": "it's"})
    assert made.text == "sys.Subject = 'Allocated' AND [colour] = 'red' AND [a]]b] = 'it''s'"
    assert made(properties) is PARSER.filter(made.text)(properties) is True


# --- explanations -----------------------------------------------------------------------------------------------------


def test_an_unknown_term_is_explained() -> None:
    filter = PARSER.filter("qty > 5 AND (weight + length > 1) AND sku > Qty AND sys.To = 'x' AND colour = NULL")
    assert [(found.term, found.truth, found.why) for found in explain(filter, order())] == [
        ("qty > 5", True, ""),
        ("weight + length > 1", None, "weight and length are not there"),
        ("sku > Qty", None, "values of two kinds, or NULL: sku is a text, Qty is a number"),
        ("sys.To = 'x'", None, "sys.To is not there"),
        ("colour = NULL", None, "values of two kinds, or NULL: colour is a text"),
    ]


def test_a_term_that_is_not_looked_at_may_be_one_that_cannot_be_worked_out() -> None:
    filter = PARSER.filter("qty = 10 OR qty / 0 = 1")
    assert filter(order()) is True
    assert explain(filter, order())[1].why == "it cannot be evaluated: 10 is divided by zero"


def test_a_text_in_double_quotes_is_seen_to_be_a_name() -> None:
    [found] = explain(PARSER.filter('sku = "RED-CHAIR"'), order())
    assert found.why == "RED-CHAIR is not there"


# --- properties -------------------------------------------------------------------------------------------------------


LOGGED = EventEnvelope(
    Allocated("o-1", "RED-CHAIR", 3, "b-1"), "id-1", NOON, LogPosition(2, 7), 5, "flow-1", "command-1"
)


def of_batch(eta: date | None) -> Properties:
    return properties_of(fact_of(LOGGED._replace(event=BatchCreated("b-1", "RED-CHAIR", 3, eta))))


def test_an_event_has_its_fields_and_those_of_its_envelope() -> None:
    properties = properties_of(fact_of(LOGGED))
    assert properties.named() == {
        "orderid": "o-1",
        "sku": "RED-CHAIR",
        "qty": 3,
        "batchref": "b-1",
        "id": "id-1",
        "type": "Allocated",
        "time": "2031-03-01T12:00:00+00:00",
        "position": "2-7",
        "version": 5,
        "correlation_id": "flow-1",
        "causation_id": "command-1",
        "partition": 2,
        "sequence": 7,
    }
    assert properties.system == {
        "MessageId": "id-1",
        "SessionId": "RED-CHAIR",
        "PartitionKey": "RED-CHAIR",
        "Subject": "Allocated",
        "CorrelationId": "flow-1",
        "ContentType": "application/json",
        "EnqueuedTimeUtc": datetime(2031, 3, 1, 12, tzinfo=UTC),
    }


@pytest.mark.parametrize(
    ("filter", "here", "underway"),
    [
        ("eta IS NULL", True, False),
        ("EXISTS(eta)", False, True),
        ("eta < '2031-04-01'", None, True),
        ("type = 'BatchCreated' AND sys.Label = type", True, True),
    ],
)
def test_stock_on_hand_has_no_eta(filter: str, here: bool | None, underway: bool | None) -> None:
    test = PARSER.filter(filter)
    assert test(of_batch(None)) is here
    assert test(of_batch(date(2031, 3, 9))) is underway


@pytest.mark.parametrize("eta", [None, date(2031, 3, 9)])
def test_a_field_that_is_set_keeps_its_spelling_whether_or_not_it_was_there(eta: date | None) -> None:
    fact = fact_of(LOGGED._replace(event=BatchCreated("b-1", "RED-CHAIR", 3, eta)))
    [copy] = copies_of([rule("late", "1=1", "SET ETA = '2031-05-01'")], fact)
    assert copy.data["eta"] == "2031-05-01"
    assert "ETA" not in copy.data


def test_a_stock_level_has_the_properties_that_rules_can_read() -> None:
    level = StockLevel("RED-CHAIR", 5, LOGGED.position, (Available(None, 3, 3),))
    properties = properties_of(level_message(level, LOGGED))
    assert (properties.user["sku"], properties.user["version"], properties.user["type"]) == (
        "RED-CHAIR",
        5,
        "StockLevel",
    )
    assert "available" not in properties.user
    assert properties.system["MessageId"] == "stock-level:RED-CHAIR:5"


def test_two_properties_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(RuleFailed, match="qty is there twice"):
        Properties({"qty": 1, "QTY": 2})
