"""The one error of the contract.

ContractError    bytes, a topic or a value break the contract,
                 e.g. a telemetry message whose ``location.lat`` is 191
"""

from __future__ import annotations


class ContractError(ValueError):
    """Something breaks the contract; nothing was decoded.

    ``field`` is the dotted path of the first offending field (``location.lat``),
    or the name of the part that could not be read at all (``payload``, ``topic``,
    ``batch``). ``reason`` is a sentence fragment fit for a dead-letter record.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason

    def __reduce__(self) -> tuple[type[ContractError], tuple[str, str]]:
        return (type(self), (self.field, self.reason))
