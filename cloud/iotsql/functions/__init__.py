"""The documented functions, by name in lower case.

Pure functions take evaluated arguments; what a message's context answers (``topic()``,
``clientid()``) is in :mod:`cloud.iotsql.compiler`. Wrong types give Undefined, as in the
developer guide's tables ("Functions").
"""

from __future__ import annotations

from typing import Final

from cloud.iotsql.functions.collection import COLLECTION
from cloud.iotsql.functions.digest import DIGEST
from cloud.iotsql.functions.numeric import NUMERIC
from cloud.iotsql.functions.pattern import PATTERN
from cloud.iotsql.functions.registry import Function
from cloud.iotsql.functions.text import TEXT
from cloud.iotsql.functions.time import TIME

PURE: Final[dict[str, Function]] = {**COLLECTION, **DIGEST, **NUMERIC, **PATTERN, **TEXT, **TIME}

__all__ = ["PURE", "Function"]
