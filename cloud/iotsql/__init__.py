"""AWS IoT SQL, version 2016-03-23, evaluated here.

The one-machine mode runs the rules of ``cloud/template.yaml`` with this, so that a rule
means the same on a desk and on AWS. It accepts what the AWS IoT developer guide
documents ("AWS IoT SQL reference") and refuses everything else when the rule is compiled.

::

    rule = compile_rule("SELECT *, topic(2) AS vehicle FROM 'telemetry/+'")
    if rule.matches(topic):
        result = rule.evaluate(payload, RuleContext(topic, timestamp_ms, client_id))
        if result is not None:
            send(substitute("${topic(2)}", payload, context), result.to_bytes())
"""

from cloud.iotsql.context import SQL_VERSION, RuleContext
from cloud.iotsql.errors import IotSqlError, PayloadError, SqlSyntaxError
from cloud.iotsql.rule import Result, Rule, compile_rule
from cloud.iotsql.substitution import Template, compile_template, substitute
from cloud.iotsql.topics import basic_ingest_rule
from cloud.iotsql.values import UNDEFINED

__all__ = [
    "SQL_VERSION",
    "UNDEFINED",
    "IotSqlError",
    "PayloadError",
    "Result",
    "Rule",
    "RuleContext",
    "SqlSyntaxError",
    "Template",
    "basic_ingest_rule",
    "compile_rule",
    "compile_template",
    "substitute",
]
