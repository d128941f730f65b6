"""Which functions there are and how many arguments each takes.

AWS evaluates a call with a wrong number of arguments to Undefined; here it is refused
when the rule is compiled, since it is always a mistake. Functions that ask another AWS
service are known by name and refused with the reason.
"""

from __future__ import annotations

from typing import Final

from cloud.iotsql.errors import SqlSyntaxError
from cloud.iotsql.syntax import Call, Literal, Star

UNBOUNDED: Final = 1_000

ARITIES: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(
        (
            *("abs", "acos", "asin", "atan", "bitnot", "ceil", "chr", "cos", "cosh", "exp"),
            *("floor", "isnull", "isundefined", "length", "ln", "log", "lower", "ltrim"),
            *("md2", "md5", "numbytes", "round", "rtrim", "sha1", "sha224", "sha256", "sha384"),
            *("sha512", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trim", "upper"),
            *("get_mqtt_property", "get_user_properties"),
        ),
        (1, 1),
    ),
    **dict.fromkeys(
        (
            *("atan2", "bitand", "bitor", "bitxor", "decode", "encode", "endswith", "get"),
            *("get_or_default", "indexof", "lpad", "mod", "nanvl", "power", "regexp_matches"),
            *("regexp_substr", "remainder", "rpad", "startswith", "time_to_epoch", "trunc"),
        ),
        (2, 2),
    ),
    **dict.fromkeys(("regexp_replace", "replace", "transform"), (3, 3)),
    **dict.fromkeys(
        (
            *("accountid", "clientid", "newuuid", "principal", "rand", "sourceip"),
            *("sql_version", "timestamp", "traceid"),
        ),
        (0, 0),
    ),
    "concat": (0, UNBOUNDED),
    "parse_time": (2, 3),
    "substring": (2, 3),
    "topic": (0, 1),
}

NEEDS_AWS: Final = {
    "aws_lambda": "calls a Lambda function",
    "get_dynamodb": "reads a DynamoDB table",
    "get_registry_data": "reads the thing registry",
    "get_secret": "reads a secret of Secrets Manager",
    "get_thing_shadow": "reads a shadow",
    "machinelearning_predict": "asks an Amazon Machine Learning model",
}


def check_name(text: str, name: str, position: int) -> None:
    """Refuse a function that is not there.

    Raises:
        SqlSyntaxError: unknown, or needs AWS.
    """
    if name in NEEDS_AWS:
        raise SqlSyntaxError(
            text,
            position,
            f"{name}() {NEEDS_AWS[name]} and works on AWS only",
            "a rule that also runs without AWS",
        )
    if name not in ARITIES and name != "cast":
        raise SqlSyntaxError(text, position, f"unknown function {name}()", _nearest(name))


def check_call(text: str, call: Call) -> None:
    """Refuse a call, of a known function, that can never be evaluated.

    Raises:
        SqlSyntaxError: wrong arguments.
    """
    least, most = ARITIES[call.name]
    if not least <= len(call.arguments) <= most:
        raise SqlSyntaxError(
            text,
            call.position,
            f"{call.name}() has {len(call.arguments)} arguments",
            _count(least, most),
        )
    if call.name in {"encode", "decode"}:
        _check_scheme(text, call)


def _check_scheme(text: str, call: Call) -> None:
    value, scheme = call.arguments
    if isinstance(value, Star) and call.name == "decode":
        raise SqlSyntaxError(text, value.position, "decode() takes a string", "an expression")
    if not isinstance(scheme, Literal) or scheme.value != "base64":
        raise SqlSyntaxError(
            text, scheme.position, f"{call.name}() with another scheme", "the literal 'base64'"
        )


def _count(least: int, most: int) -> str:
    if most == UNBOUNDED:
        return f"at most {UNBOUNDED}"
    return str(least) if least == most else f"{least} to {most}"


def _nearest(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  only a mistake needs it

    near = get_close_matches(name, ARITIES, n=1)
    return (
        f"a function that AWS documents, such as {near[0]}()"
        if near
        else ("a function that AWS documents")
    )
