"""Words with a meaning in IoT SQL, and what to write for those that AWS does not document."""

from __future__ import annotations

from typing import Final

RESERVED: Final = frozenset(
    {
        *("SELECT", "FROM", "WHERE", "AS", "AND", "OR", "NOT", "SET", "NULL", "TRUE", "FALSE"),
        *("CASE", "WHEN", "THEN", "ELSE", "END"),
    }
)
CAST_TARGETS: Final = {
    **dict.fromkeys(("string", "nvarchar", "text", "ntext", "varchar"), "String"),
    **dict.fromkeys(("int", "integer"), "Int"),
    **dict.fromkeys(("double", "decimal"), "Decimal"),
    **dict.fromkeys(("bool", "boolean"), "Boolean"),
}
UNDOCUMENTED: Final = {
    "IN": "= with OR, or a nested query: IN is not documented by AWS",
    "EXISTS": "NOT isUndefined(…): EXISTS is not documented by AWS",
    "IS": "isNull(…) or isUndefined(…): IS is not documented by AWS",
    "LIKE": "startswith, endswith or regexp_matches: LIKE is not documented by AWS",
    "BETWEEN": ">= and <= with AND: BETWEEN is not documented by AWS",
    "GROUP": "the end of the text: IoT SQL has no aggregation",
    "ORDER": "the end of the text: IoT SQL has no order",
    "LIMIT": "the end of the text: IoT SQL has no LIMIT",
}
