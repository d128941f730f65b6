"""IoT SQL and templates raise IotSqlError alone, whatever the text and the payload.

An input is SQL, a zero byte, a payload, a zero byte, a template. A regular expression is the
rule author's own and may backtrack for ever, on AWS as here: such rules are only compiled.
"""

from cloud.iotsql import IotSqlError, RuleContext, compile_rule, compile_template
from cloud.template import load_rules

CONTEXT = RuleContext("telemetry/12345", 1_736_951_538_123, "12345", "ab" * 32)
PAYLOAD = b'{"vehicle_id":"12345","battery":{"percent":12,"cells":[{"v":3.1},{"v":3.9}]},"t":"x"}'
QUERIES = [
    *(rule.sql for rule in load_rules()),
    "SELECT VALUE {'a': [1, -2.5e3, upper(t)]} FROM 'telemetry/+' WHERE NOT isUndefined(battery)",
    "SELECT (SELECT v FROM battery.cells WHERE v < 3.5) AS low, topic(2) AS id FROM 'a/#'",
    "SET @b = battery SELECT @b.percent + 1 AS p, CASE t WHEN 'x' THEN 1 ELSE 2 END AS c FROM 'a'",
    "SELECT cast(t AS Decimal) AS d, substring(t, 0, 1) AS s, parse_time('yyyy', 1) AS y FROM 'a'",
]
TEMPLATES = [b"${topic(2)}", b"a/${battery.percent}/${timestamp()}", b"$${x}"]
SEEDS = [
    sql.encode() + b"\0" + PAYLOAD + b"\0" + TEMPLATES[number % len(TEMPLATES)]
    for number, sql in enumerate(QUERIES)
]
TOKENS = [b"SELECT", b"FROM", b"WHERE", b"CASE", b"WHEN", b"AS", b"encode(*,'base64')", b"IN"]


def take(data: bytes) -> None:
    sql, _, rest = data.partition(b"\0")
    payload, _, template = rest.partition(b"\0")
    try:
        rule = compile_rule(sql.decode(errors="replace"))
        if b"regexp" in sql.lower():
            return
        result = rule.evaluate(payload, CONTEXT)
        if result is not None:
            result.to_bytes()
        if b"regexp" not in template.lower():
            text = template.decode(errors="replace")
            names = rule.variable_names
            compile_template(text, names).render_frame(rule.frame(payload, CONTEXT))
    except IotSqlError as error:
        str(error)
