"""The operators, by the tables of the AWS IoT developer guide ("Operators", "Data types")."""

import json
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.iotsql import UNDEFINED, RuleContext, compile_rule

CONTEXT = RuleContext("a/b", timestamp_ms=1_481_825_251_155, client_id="van-1")


def value_of(expression, payload=None):
    rule = compile_rule(f"SELECT VALUE {expression} FROM 'a/b'")  # noqa: S608  no database
    return rule.evaluate(json.dumps(payload or {}).encode(), CONTEXT).value


def same(left, right):
    return type(left) is type(right) and left == right


SAMPLES = {
    "true": True,
    "false": False,
    "'true'": "true",
    "'FALSE'": "FALSE",
    "'x'": "x",
    "5": 5,
    "2.5": 2.5,
    "'7'": "7",
    "null": None,
    "missing": UNDEFINED,
    "[1, 2]": [1, 2],
    "{'k': 1}": {"k": 1},
}
BOOLEAN = {"true": True, "false": False, "'true'": True, "'FALSE'": False}
NUMBER = {"5": 5, "2.5": 2.5, "'7'": 7}
PAIRS = list(product(SAMPLES, SAMPLES))


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_and_and_or_need_two_booleans_or_their_texts_and_are_undefined_otherwise(left, right):
    known = left in BOOLEAN and right in BOOLEAN
    expected_and = (BOOLEAN[left] and BOOLEAN[right]) if known else UNDEFINED
    expected_or = (BOOLEAN[left] or BOOLEAN[right]) if known else UNDEFINED
    assert value_of(f"({left} AND {right})") is expected_and
    assert value_of(f"({left} OR {right})") is expected_or


@pytest.mark.parametrize("operand", SAMPLES)
def test_not_needs_a_boolean_or_its_text_and_is_undefined_otherwise(operand):
    expected = not BOOLEAN[operand] if operand in BOOLEAN else UNDEFINED
    assert value_of(f"NOT {operand}") is expected


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_an_order_needs_two_numbers_or_their_texts_and_is_undefined_otherwise(left, right):
    known = left in NUMBER and right in NUMBER
    for operator, compare in (
        ("<", lambda a, b: a < b),
        ("<=", lambda a, b: a <= b),
        (">", lambda a, b: a > b),
        (">=", lambda a, b: a >= b),
    ):
        expected = compare(NUMBER[left], NUMBER[right]) if known else UNDEFINED
        assert value_of(f"({left} {operator} {right})") is expected


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_equality_of_different_types_is_false_and_with_undefined_undefined(left, right):
    undefined = "missing" in {left, right}
    assert value_of(f"({left} = {right})") is (UNDEFINED if undefined else left == right)
    assert value_of(f"({left} <> {right})") is (UNDEFINED if undefined else left != right)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 = 1.0", True),
        ("1 = true", False),
        ("'5' = 5", False),
        ("[1, 2] = [1, 2]", True),
        ("[1, 2] = [2, 1]", False),
        ("[1] = [true]", False),
        ("{'a': 1, 'b': [2.0]} = {'b': [2], 'a': 1}", True),
        ("{'a': 1} <> {'a': 2}", True),
        ("0.1 + 0.2 = 0.3", True),
        ("null = null", True),
        ("null <> null", False),
    ],
)
def test_equality_is_deep_and_by_value(expression, expected):
    assert value_of(f"({expression})") is expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2", 3),
        ("1 + 2.5", 3.5),
        ("0.1 + 0.2", 0.3),
        ("'a' + 1", "a1"),
        ("1.5 + 'a'", "1.5a"),
        ("true + 'a'", "truea"),
        ("'a' + [1, 'b', null]", 'a[1,"b",null]'),
        ("'a' + null", UNDEFINED),
        ("'a' + missing", UNDEFINED),
        ("'1' + 2", "12"),
        ("true + 1", UNDEFINED),
        ("null + 1", UNDEFINED),
        ("7 - 2", 5),
        ("7 - 0.5", 6.5),
        ("'7' - 2", 5),
        ("'x' - 2", UNDEFINED),
        ("6 * 7", 42),
        ("'1.5' * 2", 3),
        ("[1] * 2", UNDEFINED),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("7 / 2.0", 3.5),
        ("'7' / 2", 3.5),
        ("7 / 0", UNDEFINED),
        ("7 / 0.0", UNDEFINED),
        ("7 % 3", 1),
        ("-7 % 3", -1),
        ("7.5 % 2", 1.5),
        ("'7' % '4'", 3),
        ("7 % 0", UNDEFINED),
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("10 - 4 - 3", 3),
        ("9.9E999 * 10", UNDEFINED),
    ],
)
def test_arithmetic_follows_the_tables(expression, expected):
    assert same(value_of(f"({expression})"), expected)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("NOT false AND false", False),
        ("true OR false AND false", True),
        ("1 + 1 = 2 AND 2 * 2 > 3", True),
        ("NOT 1 = 2", True),
        ("not TRUE or True", True),
    ],
)
def test_operators_bind_as_in_ansi_sql_and_keywords_have_no_case(expression, expected):
    assert value_of(f"({expression})") is expected


TRUTH = st.sampled_from(["true", "false", "missing"])


@settings(deadline=None)
@given(TRUTH, TRUTH, TRUTH)
def test_the_logic_is_commutative_associative_and_keeps_de_morgan_s_laws(a, b, c):
    def equivalent(left, right):
        assert value_of(f"({left})") is value_of(f"({right})")

    equivalent(f"{a} AND {b}", f"{b} AND {a}")
    equivalent(f"{a} OR {b}", f"{b} OR {a}")
    equivalent(f"({a} AND {b}) AND {c}", f"{a} AND ({b} AND {c})")
    equivalent(f"({a} OR {b}) OR {c}", f"{a} OR ({b} OR {c})")
    equivalent(f"NOT ({a} AND {b})", f"NOT {a} OR NOT {b}")
    equivalent(f"NOT ({a} OR {b})", f"NOT {a} AND NOT {b}")
    equivalent(f"NOT NOT {a}", a)
    equivalent(f"{a} AND ({b} OR {c})", f"({a} AND {b}) OR ({a} AND {c})")


INTS = st.integers(min_value=-(10**16), max_value=10**16)


@settings(deadline=None)
@given(INTS, INTS.filter(bool))
def test_quotient_and_remainder_make_the_dividend_again(a, b):
    payload = {"a": a, "b": b}
    assert value_of("((a / b) * b + a % b)", payload) == a


@settings(deadline=None)
@given(INTS, INTS)
def test_exactly_one_of_less_equal_and_greater_holds(a, b):
    payload = {"a": a, "b": b}
    held = [value_of(f"(a {operator} b)", payload) for operator in ("<", "=", ">")]
    assert held.count(True) == 1
    assert value_of("(a <> b)", payload) is not value_of("(a = b)", payload)
