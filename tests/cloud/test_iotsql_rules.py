"""Statements: SELECT, FROM, WHERE, SET, nested queries, binary payloads, templates."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.iotsql import (
    UNDEFINED,
    IotSqlError,
    PayloadError,
    RuleContext,
    SqlSyntaxError,
    basic_ingest_rule,
    compile_rule,
    compile_template,
    substitute,
)

CONTEXT = RuleContext("a/b", timestamp_ms=1_481_825_251_155, client_id="van-1")
BINARY = b"MPB\x01\xff\x00"


def run(sql, payload, context=CONTEXT):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    result = compile_rule(sql).evaluate(raw, context)
    return None if result is None else result.value


COLOUR = {"color": "red", "temperature": 50}
NESTED = {
    "e": [
        {"n": "temperature", "u": "Cel", "t": 1234, "v": 22.5},
        {"n": "light", "u": "lm", "t": 1235, "v": 135},
        {"n": "acidity", "u": "pH", "t": 1235, "v": 7},
    ]
}


@pytest.mark.parametrize(
    ("sql", "payload", "expected"),
    [
        ("SELECT * FROM 'a/b'", COLOUR, COLOUR),
        ("SELECT color FROM 'a/b'", COLOUR, {"color": "red"}),
        ("SELECT color AS my_color FROM 'a/b'", COLOUR, {"my_color": "red"}),
        (
            "SELECT color as my_color, temperature as fahrenheit FROM 'a/b'",
            COLOUR,
            {"my_color": "red", "fahrenheit": 50},
        ),
        ("SELECT *, 15 as speed FROM 'a/b'", COLOUR, {**COLOUR, "speed": 15}),
        ("SELECT VALUE color FROM 'a/b'", COLOUR, "red"),
        ("SELECT VALUE * FROM 'a/b'", COLOUR, COLOUR),
        ("SELECT VALUE missing FROM 'a/b'", COLOUR, UNDEFINED),
        ("SELECT VALUE arr FROM 'topic'", {"a": {"b": "c"}, "arr": [1, 2, 3, 4]}, [1, 2, 3, 4]),
        ("SELECT color.red as red_value FROM 'a/b'", {"color": {"red": 255}}, {"red_value": 255}),
        ("SELECT foo.bar AS bar.baz FROM 'a/b'", {"foo": {"bar": 1}}, {"bar": {"baz": 1}}),
        (
            "SELECT *, 1 AS foo.extra FROM 'a/b'",
            {"foo": {"bar": 2}},
            {"foo": {"bar": 2, "extra": 1}},
        ),
        (
            "SELECT (temperature - 32) * 5 / 9 AS celsius, upper(color) as my_color FROM 'a/b'",
            COLOUR,
            {"celsius": 10, "my_color": "RED"},
        ),
        ("SELECT missing, null AS n FROM 'a/b'", {}, {"n": None}),
        (
            "SELECT value, timestamp FROM 'a/b'",
            {"value": 1, "timestamp": 2},
            {"value": 1, "timestamp": 2},
        ),
        ("SELECT value * 2 AS twice FROM 'a/b'", {"value": 4}, {"twice": 8}),
        ("SELECT timestamp() AS timestamp FROM 'a/b'", {}, {"timestamp": 1481825251155}),
        (
            "SELECT {'latitude': get(l, 0),'longitude':get(l, 1)} as l FROM 't'",
            {"l": [47.606, -122.332]},
            {"l": {"latitude": 47.606, "longitude": -122.332}},
        ),
        ("SELECT [lat,long] as l FROM 't'", {"lat": 47.696, "long": -1}, {"l": [47.696, -1]}),
        (
            """SELECT CASE color WHEN 'green' THEN 'go' WHEN 'yellow' THEN 'caution'
               ELSE 'stop' END as instructions FROM 'a/b'""",
            {"color": "yellow"},
            {"instructions": "caution"},
        ),
        ("SELECT CASE color WHEN 'x' THEN 1 ELSE 2 END AS c FROM 'a/b'", COLOUR, {"c": 2}),
        ("SELECT CASE color WHEN 'x' THEN 1 END AS c FROM 'a/b'", COLOUR, {}),
        ("SELECT CASE missing WHEN 'x' THEN 1 ELSE 2 END AS c FROM 'a/b'", COLOUR, {}),
        (
            "SELECT (SELECT VALUE n FROM e) as s FROM 't'",
            NESTED,
            {"s": ["temperature", "light", "acidity"]},
        ),
        (
            "SELECT (SELECT v FROM e WHERE n = 'temperature') as t FROM 't'",
            NESTED,
            {"t": [{"v": 22.5}]},
        ),
        (
            "SELECT get((SELECT v FROM e WHERE n = 'temperature'), 0).v as t FROM 't'",
            NESTED,
            {"t": 22.5},
        ),
        ("SELECT (SELECT * FROM e WHERE v > 100) as t FROM 't'", NESTED, {"t": [NESTED["e"][1]]}),
        ("SELECT (SELECT VALUE * FROM a.b) as t FROM 't'", {"a": {"b": [1, "x"]}}, {"t": [1, "x"]}),
        ("SELECT (SELECT b FROM a WHERE b = 2) as t FROM 't'", {"a": {"b": 1}}, {}),
        ("SELECT (SELECT b FROM a) as t FROM 't'", {"a": 5}, {}),
        (
            "SELECT decode(encoded,'base64').temperature AS t FROM 't'",
            {"encoded": "eyJ0ZW1wZXJhdHVyZSI6MzN9"},
            {"t": 33},
        ),
        (
            "SET @h = temperature / 2, @i = @h + 1 SELECT @i AS i FROM 'a/b' WHERE @h = 25",
            COLOUR,
            {"i": 26},
        ),
        ("SET @d = device SELECT @d.id AS id FROM 'a/b'", {"device": {"id": 7}}, {"id": 7}),
        (
            "SET @e = e SELECT (SELECT VALUE t FROM @e WHERE v < 100) AS t FROM 'a/b'",
            NESTED,
            {"t": [1234, 1235]},
        ),
    ],
)
def test_select_makes_the_outgoing_payload(sql, payload, expected):
    assert run(sql, payload) == expected


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ("temperature > 40 AND color = 'red'", True),
        ("temperature > 50 AND color <> 'red'", False),
        ("missing = 1", False),
        ("NOT missing = 1", False),
        ("isUndefined(missing)", True),
        ("temperature", False),
        ("'true'", False),
        ("topic(1) = 'a'", True),
        ("(SELECT VALUE 1 FROM color) = 1", False),
    ],
)
def test_a_rule_acts_only_when_where_is_true(where, passes):
    found = run(f"SELECT color FROM 'a/b' WHERE {where}", COLOUR)  # noqa: S608  no database
    assert found == ({"color": "red"} if passes else None)


def test_whole_decimals_become_integers_and_others_stay_as_they_were():
    sent = b'{"a":10.0,"b":[2.50,-0.0,1e3],"c":{"d":0.1},"e":18446744073709551616,"f":1e300}'
    result = compile_rule("SELECT *, 3.0 AS g FROM 'a/b'").evaluate(sent, CONTEXT)
    assert result.to_bytes() == (
        b'{"a":10,"b":[2.5,0,1000],"c":{"d":0.1},"e":18446744073709552000,"f":1e+300,"g":3}'
    )


def test_the_payload_keeps_its_own_objects_when_an_alias_reaches_into_one():
    rule = compile_rule("SET @a = a SELECT *, 1 AS a.b, @a AS before FROM 'x'")
    result = rule.evaluate(b'{"a":{"c":2}}', CONTEXT)
    assert result.value == {"a": {"c": 2, "b": 1}, "before": {"c": 2}}


class TestBinaryPayloads:
    @pytest.mark.parametrize("payload", [BINARY, b"80", b'"text"', b"{", b"{} x", b'{"a":1e999}'])
    def test_star_alone_passes_the_bytes_on(self, payload):
        result = compile_rule("SELECT * FROM 'a/b' WHERE timestamp() % 5 = 0").evaluate(
            payload, CONTEXT
        )
        assert result.value == payload
        assert result.to_bytes() == payload

    def test_encode_takes_any_bytes(self):
        sql = "SELECT encode(*, 'base64') AS data, topic(2) AS id FROM 'a/b'"
        assert run(sql, BINARY) == {"data": "TVBCAf8A", "id": "b"}
        assert run(sql, b"") == {"data": "", "id": "b"}

    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT *, topic(2) AS id FROM 'a/b'",
            "SELECT temperature FROM 'a/b'",
            "SET @t = temperature SELECT @t AS t FROM 'a/b'",
        ],
    )
    def test_what_needs_a_json_object_is_an_error(self, sql):
        for payload in (BINARY, b"[1]", b"80"):
            with pytest.raises(PayloadError, match="no JSON object"):
                run(sql, payload)

    def test_names_in_where_are_undefined(self):
        assert run("SELECT * FROM 'a/b' WHERE kind = 'x'", BINARY) is None
        assert run("SELECT * FROM 'a/b' WHERE isUndefined(kind)", BINARY) == BINARY

    def test_text_becomes_json_by_encoding_and_decoding(self):
        sql = (
            "SELECT decode(encode(*, 'base64'), 'base64') AS value FROM 'a/b' "
            "WHERE decode(encode(*, 'base64'), 'base64') > 50"
        )
        assert run(sql, b"80") == {"value": 80}
        assert run(sql, b"40") is None

    def test_an_empty_payload_counts_as_an_empty_object_beside_other_items(self):
        assert run("SELECT *, topic(2) AS id FROM 'a/b'", b"") == {"id": "b"}
        assert run("SELECT * FROM 'a/b'", b"") == b""

    def test_nesting_beyond_the_limit_is_an_error_and_no_crash(self):
        for depth in (202, 900, 100_000):
            payload = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
            with pytest.raises(PayloadError):
                run("SELECT *, 1 AS x FROM 'a/b'", payload)

    def test_nesting_up_to_the_limit_comes_through(self):
        payload = b'{"a":' + b"[" * 190 + b"]" * 190 + b"}"
        rule = compile_rule("SELECT *, 1 AS x FROM 'a/b'")
        assert rule.evaluate(payload, CONTEXT).to_bytes() == payload[:-1] + b',"x":1}'


@pytest.mark.parametrize(
    ("sql", "position", "part"),
    [
        ("", 0, "SELECT"),
        ("DELETE FROM 'x'", 0, "SELECT"),
        ("SELECT", 6, "field"),
        ("SELECT a", None, None),
        ("SELECT a FROM x", 14, "single quotes"),
        ('SELECT a FROM "x"', 14, "single quotes"),
        ("SELECT a FROM 'x", 14, "closing quote"),
        ("SELECT a FROM 'x/#/y'", 14, "# must be the last"),
        ("SELECT a FROM 'x/y+'", 14, "whole level"),
        ("SELECT a FROM '1/2/3/4/5/6/7/8/9'", 14, "7 slashes"),
        ("SELECT a FROM 'x' WHERE a != 1", 26, "<>"),
        ("SELECT a FROM 'x' WHERE a == 1", 27, "field"),
        ("SELECT a FROM 'x' WHERE a IN [1, 2]", 26, "IN is not documented"),
        ("SELECT a FROM 'x' WHERE EXISTS (SELECT b FROM c)", 24, "EXISTS is not documented"),
        ("SELECT a FROM 'x' WHERE a IS NOT NULL", 26, "isNull"),
        ("SELECT a FROM 'x' WHERE a LIKE 'b%'", 26, "startswith"),
        ("SELECT a FROM 'x' WHERE a < b < c", 30, "do not chain"),
        ("SELECT a FROM 'x' ORDER BY a", 18, "no order"),
        ("SELECT a.b FROM 'x'", 7, "AS and a name"),
        ("SELECT upper(a) FROM 'x'", 7, "AS and a name"),
        ("SELECT a b FROM 'x'", 9, "FROM"),
        ("SELECT a, * FROM 'x'", 10, "* stands first"),
        ("SELECT VALUE a, b FROM 'x'", 14, "one item"),
        ("SELECT a[0] AS b FROM 'x'", 8, "get("),
        ("SELECT -a AS b FROM 'x'", 8, "0 - x"),
        ("SELECT 1x AS b FROM 'x'", 8, "directly after a number"),
        ("SELECT 1.2.3 AS b FROM 'x'", 10, "directly after a number"),
        ("SELECT 1E9999 AS b FROM 'x'", 7, "9.99E999"),
        ("SELECT uper(a) AS b FROM 'x'", 7, "upper()"),
        ("SELECT upper(a, b) AS c FROM 'x'", 7, "2 arguments; expected 1"),
        ("SELECT substring(a) AS c FROM 'x'", 7, "expected 2 to 3"),
        ("SELECT md5(*) AS c FROM 'x'", 11, "encode only"),
        ("SELECT encode(*, 'hex') AS c FROM 'x'", 17, "'base64'"),
        ("SELECT encode(*, a) AS c FROM 'x'", 17, "'base64'"),
        ("SELECT cast(a AS float) AS c FROM 'x'", 17, "a type"),
        ("SELECT CASE WHEN a THEN b END AS c FROM 'x'", 12, "WHENs"),
        ("SELECT CASE a END AS c FROM 'x'", 14, "WHEN"),
        ("SELECT CASE a WHEN 1 THEN 2 AS c FROM 'x'", 28, "END"),
        ("SELECT {a: 1} AS c FROM 'x'", 8, "key in quotes"),
        ("SELECT (a AS c FROM 'x'", 10, ")"),
        ("SELECT (SELECT a FROM 'x') AS c FROM 'x'", 22, "field"),
        ("SELECT (SELECT a FROM upper(b)) AS c FROM 'x'", 22, "reads from a field"),
        ("SELECT 'a ${topic()}' AS c FROM 'x'", 7, "template inside"),
        ("SELECT a -- no\nFROM 'x'", 12, "number after -"),
        ("SELECT @a AS b FROM 'x'", 7, "@a is not set"),
        ("SET @a = 1, @a = 2 SELECT @a AS b FROM 'x'", 12, "set twice"),
        ("SET @a = @b, @b = 2 SELECT @a AS b FROM 'x'", 9, "@b is not set"),
        ("SELECT a FROM 'x' SET @a = 1", 18, "end of the text"),
    ],
)
def test_what_is_not_documented_is_refused_with_its_place(sql, position, part):
    if position is None:
        compile_rule(sql)  # FROM is optional, for Basic Ingest
        return
    with pytest.raises(SqlSyntaxError) as caught:
        compile_rule(sql)
    assert caught.value.position == position, str(caught.value)
    assert part in str(caught.value)
    assert (caught.value.line, caught.value.column) == (1, position + 1)


@pytest.mark.parametrize(
    "name",
    [
        *("aws_lambda", "get_dynamodb", "get_registry_data", "get_secret", "get_thing_shadow"),
        "machinelearning_predict",
    ],
)
def test_a_function_that_asks_aws_is_refused_with_the_reason(name):
    with pytest.raises(SqlSyntaxError, match="works on AWS only"):
        compile_rule(f"SELECT {name}('x', *) AS a FROM 'x'")  # noqa: S608  no database


def test_the_line_of_an_error_is_counted():
    with pytest.raises(SqlSyntaxError) as caught:
        compile_rule("SELECT a,\n  b c\nFROM 'x'")
    assert (caught.value.line, caught.value.column) == (2, 5)


@pytest.mark.parametrize(
    ("topic_filter", "matching", "others"),
    [
        ("a/b", ["a/b"], ["a/c", "a/b/c", "a", "A/b", "a/b/"]),
        ("a/#", ["a", "a/b", "a/e/f", "a/"], ["b/x", "ab"]),
        ("a/+", ["a/b", "a/"], ["a", "a/e/f", "b/x"]),
        ("+/b/#", ["a/b", "a/b/c"], ["$aws/b", "a/c"]),
        ("#", ["a", "a/b"], ["$aws/x"]),
        ("$aws/events/#", ["$aws/events/presence"], ["aws/events"]),
        ("telemetry/+", ["telemetry/12345"], ["telemetry/12345/batch"]),
        ("a.c/+", ["a.c/x"], ["abc/x"]),
    ],
)
def test_a_topic_filter_takes_what_mqtt_says(topic_filter, matching, others):
    rule = compile_rule(f"SELECT * FROM '{topic_filter}'")  # noqa: S608  no database
    assert rule.topic_filter == topic_filter
    assert [topic for topic in matching + others if rule.matches(topic)] == matching


def test_a_rule_without_from_is_reached_by_basic_ingest_alone():
    rule = compile_rule("SELECT *")
    assert rule.topic_filter is None
    assert not rule.matches("a")
    assert basic_ingest_rule("$aws/rules/milepost_telemetry/telemetry/1") == "milepost_telemetry"
    assert basic_ingest_rule("telemetry/1") is None


class TestTemplates:
    def test_expressions_see_the_original_payload(self):
        text = "${topic()}/republish/${device.id}/${timestamp() / 1000}"
        found = substitute(text, b'{"device":{"id":"x"}}', CONTEXT)
        assert found == "a/b/republish/x/1481825251"

    def test_braces_and_quotes_inside_an_expression_do_not_end_it(self):
        text = "${get({'}': 'deep'}, '}')}-${parse_time(\"yyyy\", timestamp(), 'UTC')}"
        assert substitute(text, b"", CONTEXT) == "deep-2016"

    def test_undefined_leaves_nothing_and_json_is_written_as_such(self):
        assert substitute("<${missing}>", b"{}", CONTEXT) == "<>"
        assert substitute("<${topic(2)}>", BINARY, CONTEXT) == "<b>"
        assert substitute("${a} ${b}", b'{"a":{"c":[1,null]},"b":null}', CONTEXT) == (
            '{"c":[1,null]} null'
        )

    def test_an_alias_is_unknown_and_a_variable_is_known(self):
        rule = compile_rule("SET @v = a + 1 SELECT @v AS twice FROM 'x'")
        template = compile_template("${@v}/${twice}", rule.variable_names)
        assert template.render_frame(rule.frame(b'{"a":1}', CONTEXT)) == "2/"

    @pytest.mark.parametrize(
        ("text", "position"), [("ab ${topic(", 3), ("ab ${1 +}", 8), ("${@v}", 2), ("${}", 2)]
    )
    def test_a_wrong_template_is_refused_with_its_place(self, text, position):
        with pytest.raises(SqlSyntaxError) as caught:
            compile_template(text)
        assert caught.value.position == position

    def test_text_without_expressions_is_itself(self):
        assert compile_template("plain $ {x}").is_constant
        assert substitute("plain $ {x}", BINARY, CONTEXT) == "plain $ {x}"


WORDS = st.sampled_from(
    [
        *("SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "CASE", "WHEN", "THEN", "ELSE"),
        *("END", "NULL", "true", "VALUE", "SET", "@v", "a", "b", "'t/+'", '"s"', "1", "2.50"),
        *("1E-5", "*", "/", "%", "+", "-", "=", "<>", "<=", "(", ")", "[", "]", "{", "}", ",", "."),
        *(":", "get(", "upper(", "cast(", "topic(", "concat(", "encode(*,", "'base64')", "(SELECT"),
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FUNCTIONS = sorted(
    {
        *("abs", "acos", "asin", "atan2", "bitand", "bitnot", "bitor", "bitxor", "ceil", "chr"),
        *("concat", "cosh", "endswith", "exp", "floor", "get", "get_or_default", "indexof"),
        *("isNull", "length", "ln", "log", "lower", "lpad", "mod", "md2", "nanvl", "numbytes"),
        *("parse_time", "power", "regexp_matches", "regexp_replace", "regexp_substr", "replace"),
        *("round", "rpad", "sign", "sinh", "sqrt", "startswith", "substring", "tan", "topic"),
        *("time_to_epoch", "transform", "trim", "trunc", "sha256"),
    }
)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=14).map(" ".join) | st.text(max_size=60), JSON)
def test_random_text_is_compiled_and_evaluated_or_refused_with_a_documented_error(tail, value):
    payload = json.dumps({"a": value, "b": [value]}).encode("utf-8", "surrogatepass")
    for sql in (tail, f"SELECT {tail}", f"SELECT VALUE {tail} FROM 'x'"):  # noqa: S608  no database
        try:
            result = compile_rule(sql).evaluate(payload, CONTEXT)
            if result is not None:
                result.to_bytes()
        except IotSqlError as error:
            assert str(error)  # noqa: PT017  both outcomes are right


@settings(deadline=None)
@given(st.sampled_from(FUNCTIONS), JSON, JSON, JSON)
def test_a_function_gives_a_value_for_any_arguments(name, first, second, third):
    payload = json.dumps({"x": first, "y": second, "z": third}).encode()
    for arguments in ("x", "x, y", "x, y, z"):
        try:
            rule = compile_rule(f"SELECT VALUE {name}({arguments}) FROM 'x'")  # noqa: S608  no database
        except SqlSyntaxError as error:
            assert "arguments" in str(error)  # noqa: PT017  a function takes one of these
            continue
        rule.evaluate(payload, CONTEXT).to_bytes()


@settings(deadline=None)
@given(JSON, JSON, st.sampled_from(["+", "-", "*", "/", "%", "=", "<>", "<", ">=", "AND", "OR"]))
def test_an_operator_gives_a_value_for_any_operands(left, right, operator):
    payload = json.dumps({"x": left, "y": right}).encode()
    rule = compile_rule(f"SELECT VALUE x {operator} y FROM 'x'")  # noqa: S608  no database
    rule.evaluate(payload, CONTEXT).to_bytes()


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_random_bytes_are_evaluated_or_refused_with_a_documented_error(payload):
    for sql in ("SELECT * FROM 'x'", "SELECT *, a AS b FROM 'x'", "SELECT a FROM 'x' WHERE a > 1"):
        try:
            compile_rule(sql).evaluate(payload, CONTEXT)
        except PayloadError as error:
            assert "JSON object" in str(error)  # noqa: PT017  both outcomes are right


@pytest.mark.parametrize("piece", ["(", "NOT ", "1 + ", "a.", "1 OR ", "[", "CASE ", "upper("])
def test_huge_expressions_are_refused_and_do_not_crash(piece):
    with pytest.raises(SqlSyntaxError):
        compile_rule("SELECT VALUE " + piece * 20_000 + "1")


def test_long_expressions_within_the_limits_are_evaluated():
    chain = " + ".join(["1"] * 200)
    nested = "(" * 50 + "a" + ")" * 50
    assert run(f"SELECT VALUE {chain} FROM 'x'", {}) == 200  # noqa: S608  no database
    assert run(f"SELECT VALUE {nested} FROM 'x'", {"a": 1}) == 1  # noqa: S608  no database
