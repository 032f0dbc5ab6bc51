"""Rules by example: what each expression is for one message. Written from Microsoft's two pages on rule syntax; where
these are silent, from docs/decisions."""

import re

import pytest

from allocation.adapters.rule_parser import LarkRuleParser
from allocation.service_layer.rules.values import BadRule, Properties, RuleFailed, Truth
from tests.fakes import NOON, CountingIds

U = None  # UNKNOWN

MESSAGE = Properties(
    {
        "sku": "RED-CHAIR",
        "qty": 12,
        "packs": 0,
        "Price": 2.5,
        "urgent": True,
        "note": "100% oak_wood",
        "lines": "one\ntwo",
        "nothing": None,
        "a]b": 1,
        'a"b': 2,
        "unit price": 3,
        "_hidden": 4,
        "order": "o-1",
        "größe": "M",
        "p": "qty",
        "sys.To": "a name with a dot",
        "most": 2**63 - 1,
        "large": 2**53 + 1,
    },
    {"MessageId": "id-1", "Subject": "Allocated", "SessionId": "RED-CHAIR", "EnqueuedTimeUtc": NOON},
)

TABLE: list[tuple[str, Truth]] = [
    # comparisons
    ("1=1", True),
    ("1=0", False),
    ("qty = 12", True),
    ("qty <> 12", False),
    ("qty != 13", True),
    ("qty < 12", False),
    ("qty <= 12", True),
    ("qty > 11.9", True),
    ("qty >= 12.0", True),
    ("12 = qty", True),
    ("qty = packs", False),
    ("urgent = TRUE", True),
    ("urgent <> false", True),
    ("(qty) = (12)", True),
    ("((qty = 12))", True),
    ("qty = 1.2E1", True),
    ("qty = 120e-1", True),
    ("large = 9007199254740992.0", True),  # as doubles, as C# compares them
    ("large = 9007199254740992", False),
    ("qty > -9223372036854775808", True),
    # texts
    ("sku = 'RED-CHAIR'", True),
    ("sku = 'red-chair'", False),
    ("sku < 'RED-SOFA'", True),
    ("sku <> 'it''s'", True),
    ("größe = 'M'", True),
    # names
    ("QTY = 12", True),
    ("price = 2.5", True),
    ("user.Qty = 12", True),
    ("USER.qty = 12", True),
    ("[qty] = 12", True),
    ('"qty" = 12', True),
    ("[a]]b] = 1", True),
    ('"a""b" = 2', True),
    ("[unit price] = 3", True),
    ("[_hidden] = 4", True),
    ("[sys.To] = 'a name with a dot'", True),
    ("orderid = 'o-1'", U),  # no OR in it
    ("p = 'qty'", True),
    # missing, and NULL
    ("colour = 'red'", U),
    ("colour <> 'red'", U),
    ("NOT colour = 'red'", U),
    ("colour = colour", U),
    ("NULL = NULL", U),
    ("nothing = NULL", U),
    ("nothing = 1", U),
    ("colour IS NULL", True),
    ("colour IS NOT NULL", False),
    ("nothing IS NULL", True),
    ("sku IS NULL", False),
    ("sku is not null", True),
    ("EXISTS(colour)", False),
    ("EXISTS(nothing)", True),
    ("exists (Sku)", True),
    ("NOT EXISTS(user.colour)", True),
    # of two kinds
    ("sku > 5", U),
    ("sku = 12", U),
    ("qty = '12'", U),
    ("NOT qty = '12'", U),
    ("urgent = 1", U),
    ("urgent > FALSE", U),
    # AND, OR, NOT
    ("qty = 12 AND colour = 'red'", U),
    ("qty = 1 AND colour = 'red'", False),
    ("colour = 'red' AND qty = 1", False),
    ("qty = 12 OR colour = 'red'", True),
    ("colour = 'red' OR qty = 12", True),
    ("qty = 1 OR colour = 'red'", U),
    ("NOT (qty = 12 AND colour = 'red')", U),
    ("NOT qty = 1 AND qty = 12", True),
    ("NOT (qty = 1 OR qty = 12)", False),
    ("NOT NOT qty = 12", True),
    ("qty = 12 OR qty = 1 AND qty = 2", True),
    ("(qty = 12 OR qty = 1) AND qty = 2", False),
    ("qty = 1 AND qty / packs = 1", False),
    ("qty = 12 OR qty / packs = 1", True),
    # IN
    ("sku IN ('RED-CHAIR', 'OAK-SHELF')", True),
    ("sku IN ('OAK-SHELF')", False),
    ("sku NOT IN ('OAK-SHELF')", True),
    ("sku NOT IN('RED-CHAIR')", False),
    ("qty IN (1, 2 * 6)", True),
    ("qty IN (12.0)", True),
    ("colour IN ('red')", U),
    ("colour NOT IN ('red')", U),
    ("colour IN (NULL)", U),
    ("qty IN (1, NULL)", U),
    ("qty IN (12, NULL)", True),
    ("qty NOT IN (1, NULL)", U),
    ("qty IN ('12')", U),
    # LIKE
    ("sku LIKE 'RED-%'", True),
    ("sku LIKE 'red-%'", False),
    ("sku LIKE '%CHAIR'", True),
    ("sku LIKE '%-%'", True),
    ("sku LIKE 'RED_CHAIR'", True),
    ("sku LIKE 'RED'", False),
    ("sku LIKE '%'", True),
    ("sku LIKE ''", False),
    ("sku LIKE '%A%R'", True),
    ("sku LIKE '%R%A%'", True),
    ("sku LIKE '%A%A%'", False),
    ("sku NOT LIKE 'OAK%'", True),
    ("lines LIKE 'one%two'", True),
    ("lines LIKE 'one_two'", True),
    ("note LIKE '100!% %' ESCAPE '!'", True),
    ("note LIKE '100!%' ESCAPE '!'", False),
    (r"note LIKE '%oak\_wood' ESCAPE '\'", True),
    (r"sku LIKE 'RED\_CHAIR' ESCAPE '\'", False),
    ("note LIKE '.*'", False),
    ("sku LIKE sku", True),
    ("colour LIKE '%'", U),
    ("colour NOT LIKE '%'", U),
    ("sku LIKE colour", U),
    ("qty LIKE '1%'", U),
    # arithmetic
    ("qty + 1 = 13", True),
    ("qty + 2 * 3 = 18", True),
    ("(qty + 2) * 3 = 42", True),
    ("qty - 1 - 1 = 10", True),
    ("qty / 5 = 2", True),
    ("-qty / 5 = -2", True),
    ("qty / 5.0 = 2.4", True),
    ("qty % 5 = 2", True),
    ("-qty % 5 = -2", True),
    ("qty % -5 = 2", True),
    ("5.5 % 2 = 1.5", True),
    ("-(-qty) = +12", True),
    ("-price < 0", True),
    ("qty * Price = 30", True),
    ("1 / 2 = 0", True),
    ("price / packs > 1E300", True),  # infinite, as doubles are
    ("0.0 / 0 = 0.0 / 0", False),  # no number equals itself not
    ("price % packs = 0", False),
    ("colour + 1 > 0", U),
    ("-colour > 0", U),
    ("qty + NULL = 12", U),
    # functions
    ("property('qty') = 12", True),
    ("property(p) = 12", True),
    ("P('SKU') = sku", True),
    ("property('colour') = 1", U),
    ("property(colour) = 1", U),
    ("newid() = newid()", False),
    ("newid() LIKE '________-____-____-____-____________'", True),
    # system properties
    ("sys.MessageId = 'id-1'", True),
    ("SYS.messageid = 'id-1'", True),
    ("sys.[MessageId] = 'id-1'", True),
    ("sys.Label = 'Allocated'", True),
    ("sys.Subject LIKE 'Alloc%'", True),
    ("sys.SessionId = sku", True),
    ("sys.To IS NULL", True),
    ("sys.To = 'x'", U),
    ("EXISTS(sys.To)", False),
    ("EXISTS(sys.MessageId)", True),
    ("MessageId = 'id-1'", U),
    ("sys.EnqueuedTimeUtc > '2000-01-01'", U),
    ("sys.EnqueuedTimeUtc = sys.EnqueuedTimeUtc", True),
]

NO_RULES: list[tuple[str, int, str]] = [  # text, place (from 1), what is said
    ("", 1, "Write 1=1"),
    ("sys.NoSuchThing = 1", 5, "messages have no system property NoSuchThing"),
    ("EXISTS(sys.Body)", 12, "messages have no system property Body"),
    ("urgent", 7, "compare it, as in urgent = TRUE"),
    ("urgent AND qty = 1", 8, "compare it"),
    ("TRUE", 5, "compare it"),
    ("qty >", 6, "expected a property, a number, a 'text'"),
    ("qty == 1", 6, "Write one ="),
    ("qty = 1 sku = 2", 9, "Join conditions with AND or OR"),
    ("qty = 1 && sku = 2", 9, "Write AND"),
    ("(qty = 1", 9, "Close the parenthesis"),
    ("qty = 1)", 8, "expected"),
    ("sku = 'RED", 7, "no closing '"),
    ("[sku = 1", 1, "no closing ]"),
    ("qty IS 5", 8, "expected NOT or NULL"),
    ("qty IN ()", 9, "expected a property"),
    ("qty IN 5", 8, "expected ("),
    ("EXISTS(5)", 8, "expected a property"),
    ("qty + 1 IS NULL", 9, "expected"),
    ("order.qty = 1", 1, "there is no scope order"),
    ("length(sku) = 1", 1, "newid() and property(name)"),
    ("property() = 1", 1, "that takes 0 values"),
    ("qty = @most", 7, "write the value itself"),
    ("qty = 1a", 7, "Write numbers as 5, 2.5 or 1E9"),
    ("qty = 5.", 7, "Write numbers as 5, 2.5 or 1E9"),
    ("_hidden = 4", 1, "as in [_name]"),
    ("set = 1", 1, "set is a keyword"),
    ("qty = 1 AND and = 2", 13, "written [and]"),
    ("qty = 9223372036854775808", 7, "does not fit into a 64-bit integer"),
    ("qty = 1E999", 7, "does not fit into a double"),
    ("sku LIKE 5", 10, "5 is a number"),
    ("sku LIKE NULL", 10, "NULL is not a pattern"),
    ("sku LIKE 'x' ESCAPE 'ab'", 10, "one character"),
    ("sku LIKE '10!' ESCAPE '!'", 10, "ends in its escape character"),
    ("sku = 'x' ESCAPE '!'", 11, "expected"),
    ("x = " + "-" * 60 + "1", 53, "Nest them less deeply"),
    ("x = '" + "y" * 1020 + "'", 1025, "split it into several rules"),
]

FAILURES: list[tuple[str, str]] = [
    ("qty / packs = 1", "12 is divided by zero"),
    ("qty % packs = 1", "12 is divided by zero"),
    ("most + 1 > 0", "does not fit into a 64-bit integer"),
    ("most * most > 0", "does not fit into a 64-bit integer"),
    ("-(-9223372036854775808) > 0", "does not fit into a 64-bit integer"),
    ("sku + 1 = 1", "+ needs numbers, but 'RED-CHAIR' is a text"),
    ("-sku = 1", "- needs numbers"),
    ("+urgent = 1", "+ needs numbers, but True is a truth value"),
    ("qty + urgent = 1", "+ needs numbers"),
    ("sku LIKE qty", "LIKE needs a text as its pattern"),
    ("sku LIKE note ESCAPE sku", "one character"),
    ("property(qty) = 1", "needs a name as a text"),
]


@pytest.fixture(scope="module")
def parser() -> LarkRuleParser:
    return LarkRuleParser(CountingIds())


@pytest.mark.parametrize(("text", "truth"), TABLE)
def test_each_expression_is_what_the_table_says(parser: LarkRuleParser, text: str, truth: Truth) -> None:
    assert parser.filter(text)(MESSAGE) is truth


@pytest.mark.parametrize(("text", "place", "said"), NO_RULES)
def test_what_is_no_filter_is_refused_with_its_place_and_advice(
    parser: LarkRuleParser, text: str, place: int, said: str
) -> None:
    with pytest.raises(BadRule) as refused:
        parser.filter(text)
    assert said in str(refused.value)
    assert refused.value.position == place - 1


@pytest.mark.parametrize(("text", "said"), FAILURES)
def test_what_has_no_truth_for_a_message_is_an_error(parser: LarkRuleParser, text: str, said: str) -> None:
    with pytest.raises(RuleFailed, match=re.escape(said)):
        parser.filter(text)(MESSAGE)


def test_the_table_is_as_long_as_it_should_be_and_says_nothing_twice() -> None:
    assert len({text for text, _ in TABLE}) == len(TABLE) >= 40
