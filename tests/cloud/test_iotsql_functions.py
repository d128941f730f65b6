"""The functions, by the examples and tables of the AWS IoT developer guide ("Functions")."""

import json
import math
import uuid

import pytest

from cloud.iotsql import UNDEFINED, RuleContext, compile_rule
from cloud.iotsql.functions import PURE
from cloud.iotsql.signatures import ARITIES

CONTEXT = RuleContext(
    "things/myThings/thingOne",
    timestamp_ms=1_481_825_251_155,
    client_id="van-1",
    principal="ba67",
    trace_id="12345678-1234-1234-1234-123456789012",
    source_ip="192.0.2.7",
    account_id="123456789012",
    mqtt_properties={"content_type": "application/json"},
    user_properties={"k": ("v1", "v2")},
)
U = UNDEFINED
NOT_A_NUMBER = ("true", "[1]", "{'a': 1}", "null", "missing", "'abc'", "''", "' 1'", "'+1'", "'.5'")


def value_of(expression, payload=None, context=CONTEXT):
    rule = compile_rule(f"SELECT VALUE {expression} FROM '#'")  # noqa: S608  no database
    return rule.evaluate(json.dumps(payload or {}).encode(), context).value


EXAMPLES = [
    ("abs(-5)", 5),
    ("abs('-5.123')", 5.123),
    ("acos(0)", 1.5707963267948966),
    ("acos(2)", U),
    ("asin(0)", 0),
    ("atan(0)", 0),
    ("atan2(1, 0)", 1.5707963267948966),
    ("bitand(13, 5)", 5),
    ("bitand(13.9, '5.9')", 5),
    ("bitor(8, 5)", 13),
    ("bitxor(13, 5)", 8),
    ("bitnot(13)", -14),
    ("ceil(1.2)", 2),
    ("ceil(-1.2)", -1),
    ("chr(65)", "A"),
    ("chr('49.9')", "1"),
    ("chr(128)", U),
    ("chr(-1)", U),
    ("concat()", U),
    ("concat(1)", 1),
    ("concat([1, 2, 3], 4)", [1, 2, 3, 4]),
    ("concat([1, 2, 3], 'hello', [4, 5, 6])", [1, 2, 3, "hello", 4, 5, 6]),
    ('concat("con", "cat")', "concat"),
    ("concat(1, 'hello')", "1hello"),
    ("concat('he', 'is', 'man')", "heisman"),
    ("concat(1, 2)", U),
    ("concat('a', null)", U),
    ("cos(0)", 1),
    ("cosh(2.3)", 5.037220649268761),
    ("endswith('cat', 'at')", True),
    ("endswith(true, 'ue')", True),
    ("endswith(null, 'x')", U),
    ("exp(1)", math.e),
    ("exp(100000)", U),
    ("floor(1.2)", 1),
    ("floor(-1.2)", -2),
    ("floor([1, 2, 3])", U),
    ("get(['a', 'b', 'c'], 1)", "b"),
    ("get(['a', 'b', 'c'], '1.9')", "b"),
    ("get(['a'], -1)", U),
    ("get(['a'], 1)", U),
    ("get({'a': 'b'}, 'a')", "b"),
    ("get({'1': 'b'}, 1)", U),
    ("get('abc', 1)", "b"),
    ("get(5, 0)", U),
    ("get_or_default(missing, 'x')", "x"),
    ("get_or_default(null, 'x')", "x"),
    ("get_or_default(0, 'x')", 0),
    ("indexof('abcd', 'bc')", 1),
    ("isNull(5)", False),
    ("isNull(Null)", True),
    ("isNull(missing)", False),
    ("isUndefined(5)", False),
    ("isUndefined(null)", False),
    ("isUndefined(floor([1, 2, 3]))", True),
    ("length('hi')", 2),
    ("length(false)", 5),
    ("length(null)", U),
    ("ln(1)", 0),
    ("ln(0)", U),
    ("log(100)", 2),
    ("lower('HELLO')", "hello"),
    ("lower(['HELLO'])", '["hello"]'),
    ("lpad('hello', 2)", "  hello"),
    ("lpad(1, 3)", "   1"),
    ("length(lpad('', 5000))", 1000),
    ("lpad('a', -3)", "a"),
    ("lpad('a', true)", U),
    ("Ltrim(' h i ')", "h i "),
    ("mod(8, 3)", 2),
    ("remainder(8, 3)", 2),
    ("Nanvl(8, 3)", 8),
    ("nanvl(missing, 3)", 3),
    ("nanvl(null, 3)", 3),
    ("nanvl('x', 3)", "x"),
    ("numbytes('hi')", 2),
    ("numbytes('€')", 3),
    ("power(2, 5)", 32),
    ("power(-8, 0.5)", U),
    ("power(0, -1)", U),
    ("regexp_matches('aaaa', 'a{2,}')", True),
    ("regexp_matches('aaaa', 'b')", False),
    ("regexp_matches('aaaa', '(')", U),
    ("regexp_matches('aaaa', '[[a]')", U),
    ("regexp_matches(null, 'a')", U),
    ("regexp_replace('abcd', 'bc', 'x')", "axd"),
    ("regexp_replace('abcd', 'b(.*)d', '$1')", "ac"),
    ("regexp_replace('abcd', 'bc', '$1')", U),
    (r"regexp_replace('abcd', 'bc', '\$1')", "a$1d"),
    ("regexp_substr('hihihello', 'hi')", "hi"),
    ("regexp_substr('hihihello', '(hi)*')", "hihi"),
    ("regexp_substr('hello', 'x')", U),
    ("replace('abcd', 'bc', 'x')", "axd"),
    ("replace('abcdabcd', 'b', 'x')", "axcdaxcd"),
    ("rpad('hello', 2)", "hello  "),
    ("rpad(1, '3.9')", "1   "),
    ("Round(1.2)", 1),
    ("Round(1.5)", 2),
    ("Round(1.7)", 2),
    ("Round(-1.1)", -1),
    ("Round(-1.5)", -2),
    ("rtrim(' h i ')", " h i"),
    ("sign(-7)", -1),
    ("sign(0)", 0),
    ("sign('13')", 1),
    ("sin(0)", 0),
    ("sinh(2.3)", 4.936961805545957),
    ("sqrt(9)", 3),
    ("sqrt(-1)", U),
    ("startswith('ranger', 'ran')", True),
    ("substring('012345', 0)", "012345"),
    ("substring('012345', 2)", "2345"),
    ("substring('012345', 2.745)", "2345"),
    ("substring(123, 2)", "3"),
    ("substring('012345', -1)", "012345"),
    ("substring(true, 1.2)", "rue"),
    ("substring(false, -2.411E247)", "false"),
    ("substring('012345', 1, 3)", "12"),
    ("substring('012345', -50, 50)", "012345"),
    ("substring('012345', 3, 1)", ""),
    ("substring(null, 1)", U),
    ("tan(3)", -0.1425465430742778),
    ("tanh(2.3)", 0.9800963962661914),
    ("Trim(' hi ')", "hi"),
    ("trunc(2.3, 0)", 2),
    ("trunc(2.3123, 2)", 2.31),
    ("trunc(2.888, 2)", 2.88),
    ("trunc(2.00, 5)", 2),
    ("trunc(2.888, -4)", 2),
    ("trunc(2.888, '1')", U),
    ("upper('hello')", "HELLO"),
    ("upper(['hello'])", '["HELLO"]'),
    # hashes; md2 and md5 from the guide, the others of the empty string from FIPS 180-4
    ("md2('hello')", "a9046c73e00331af68917d3804f70655"),
    ("md2('')", "8350e5a3e24c153df2275c9f80692773"),
    ("md2('abcdefghijklmnopqrstuvwxyz')", "4e8ddff3650292ab5a4108c3aa47940b"),
    ("md5('hello')", "5d41402abc4b2a76b9719d911017c592"),
    ("sha1('')", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ("sha224('')", "d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"),
    ("sha256('')", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("length(sha384(''))", 96),
    ("length(sha512(''))", 128),
    ("md5(null)", U),
    # base64
    ("encode('hi', 'base64')", "aGk="),
    ('encode(12, "base64")', "MTI="),
    ("encode(missing, 'base64')", U),
    ("decode('eyAidGVtcGVyYXR1cmUiOiAzMyB9Cg==', 'base64').temperature", 33),
    ("decode('aGk=', 'base64')", "hi"),
    ("decode('not base64!', 'base64')", None),
    ("decode('/w==', 'base64')", None),
    # context
    ("accountid()", "123456789012"),
    ("clientid()", "van-1"),
    ("principal()", "ba67"),
    ("sourceip()", "192.0.2.7"),
    ("sql_version()", "2016-03-23"),
    ("timestamp()", 1481825251155),
    ("topic()", "things/myThings/thingOne"),
    ("topic(1)", "things"),
    ("topic(3.7)", "thingOne"),
    ("topic(0)", U),
    ("topic(4)", U),
    ("topic(missing)", U),
    ("traceid()", "12345678-1234-1234-1234-123456789012"),
    ("get_mqtt_property('content_type')", "application/json"),
    ("get_mqtt_property('response_topic')", U),
    ("get_user_properties('k')", ["v1", "v2"]),
    ("get_user_properties('other')", U),
    # casts
    ("cast(true as Int)", 1),
    ("cast(false as Decimal)", 0),
    ("cast(2.9 as Integer)", 2),
    ("cast('5E-2' as Double)", 0.05),
    ("cast('1.9' as Int)", 1),
    ("cast('x' as Int)", U),
    ("cast(10.0 as Decimal)", 10),
    ("cast(0 as Bool)", False),
    ("cast(0.5 as Boolean)", True),
    ("cast('TRUE' as Boolean)", True),
    ("cast('1' as Boolean)", U),
    ("cast(null as Boolean)", U),
    ("cast(1 as String)", "1"),
    ("cast(0.0000001 as nvarchar)", "1E-7"),
    ("cast(true as text)", "true"),
    ("cast([1, 'a', null] as varchar)", '[1,"a",null]'),
    ("cast({'a': 1.5} as ntext)", '{"a":1.5}'),
    ("cast(null as String)", U),
    # times
    (
        'parse_time("yyyy.MM.dd G \'at\' HH:mm:ss z", 100000000, "America/Belize")',
        "1970.01.01 AD at 21:46:40 CST",
    ),
    ("parse_time('yyyy-MM-dd HH:mm:ss.SSS Z', timestamp())", "2016-12-15 18:07:31.155 +0000"),
    ("parse_time('EEEE, d MMM yy h:mm a', 0, 'UTC')", "Thursday, 1 Jan 70 12:00 AM"),
    ("parse_time('yyyy', timestamp(), 'Nowhere/Land')", U),
    ("parse_time('yyyy q', timestamp())", U),
    ("parse_time('yyyy', 1E30)", U),
    ("time_to_epoch('2020-04-03 09:45:18 UTC+01:00', 'yyyy-MM-dd HH:mm:ss VV')", 1585903518000),
    ("time_to_epoch('18 December 2015', 'dd MMMM yyyy')", 1450396800000),
    (
        "time_to_epoch('2007-12-03 10:15:30.592 America/Los_Angeles', 'yyyy-MM-dd HH:mm:ss.SSS z')",
        1196705730592,
    ),
    ("time_to_epoch('3:05 PM', 'h:mm a')", 54300000),
    ("time_to_epoch('2015-02-30', 'yyyy-MM-dd')", U),
    ("time_to_epoch('yesterday', 'yyyy-MM-dd')", U),
    ("time_to_epoch(null, 'yyyy')", U),
]


@pytest.mark.parametrize(("expression", "expected"), EXAMPLES)
def test_a_function_gives_what_the_guide_says(expression, expected):
    found = value_of(expression)
    if isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-15)
    else:
        assert type(found) is type(expected)
        assert found == expected


@pytest.mark.parametrize("argument", NOT_A_NUMBER)
@pytest.mark.parametrize(
    "name",
    [
        *("abs", "acos", "asin", "atan", "bitnot", "ceil", "chr", "cos", "cosh", "exp"),
        *("floor", "ln", "log", "round", "sign", "sin", "sinh", "sqrt", "tan", "tanh"),
    ],
)
def test_a_numeric_function_of_no_number_is_undefined(name, argument):
    assert value_of(f"{name}({argument})") is UNDEFINED


@pytest.mark.parametrize("argument", ["null", "missing"])
@pytest.mark.parametrize(
    "name", ["length", "lower", "ltrim", "md5", "numbytes", "rtrim", "sha256", "trim", "upper"]
)
def test_a_text_function_of_null_or_undefined_is_undefined(name, argument):
    assert value_of(f"{name}({argument})") is UNDEFINED


def test_transform_enriches_each_object_of_an_array():
    payload = {
        "attributes": {"data1": 1, "data2": 2},
        "values": [{"a": 3}, {"b": 4}, {"c": 5}],
    }
    assert value_of('transform("enrichArray", attributes, values)', payload) == [
        {"a": 3, "data1": 1, "data2": 2},
        {"b": 4, "data1": 1, "data2": 2},
        {"c": 5, "data1": 1, "data2": 2},
    ]
    assert value_of('transform("enrichArray", {"key": attributes.data1}, values)', payload) == [
        {"a": 3, "key": 1},
        {"b": 4, "key": 1},
        {"c": 5, "key": 1},
    ]
    assert value_of("transform('other', attributes, values)", payload) is UNDEFINED
    assert value_of("transform('enrichArray', attributes, [1])", payload) is UNDEFINED


def test_transform_takes_nested_queries():
    payload = {
        "data2": {"a": "first", "b": "second", "c": [{"x": {"n": 5}}, {"x": {"n": 10}}]},
    }
    expression = "transform('enrichArray', (select a, b from data2), (select value c from data2))"
    assert value_of(expression, payload) == [
        {"x": {"n": 5}, "a": "first", "b": "second"},
        {"x": {"n": 10}, "a": "first", "b": "second"},
    ]


def test_newuuid_and_rand_differ_each_time_and_have_their_form():
    first, second = value_of("newuuid()"), value_of("newuuid()")
    assert uuid.UUID(first) != uuid.UUID(second)
    assert 0 <= value_of("rand()") < 1
    assert value_of("rand()") != value_of("rand()")


def test_topic_does_not_see_the_basic_ingest_prefix():
    context = RuleContext("$aws/rules/BuildingManager/Buildings/Building5/Floor2/Room201", 1)
    assert value_of("topic()", context=context) == "Buildings/Building5/Floor2/Room201"
    assert value_of("topic(3)", context=context) == "Floor2"


def test_a_message_that_did_not_come_by_mqtt_has_no_client_id_and_no_trace_id():
    context = RuleContext("a", 1)
    assert value_of("clientid()", context=context) == "n/a"
    assert value_of("traceid()", context=context) is UNDEFINED


def test_every_function_that_has_a_signature_can_be_evaluated():
    for name, (least, _) in ARITIES.items():
        arguments = ["'x'"] * least
        if name in {"encode", "decode"}:
            arguments[1] = "'base64'"
        value_of(f"{name}({', '.join(arguments)})")
    assert set(PURE) <= set(ARITIES)
