"""Which operations there are, and whether a job document asks for one that may be done."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.jobs.operation import JobRefusedError, Operation
from contract.errors import ContractError
from contract.jobs import parse_document

_log = logging.getLogger("agent.jobs")


@dataclass(frozen=True, slots=True)
class Judged:
    """A document, read; ``refusal`` is the reason why it will not be done."""

    operation: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    refusal: str | None = None


class Table:
    """Operations by name; ``allowed`` are those that the config lets be done from afar."""

    def __init__(self, operations: Mapping[str, Operation], allowed: Collection[str]) -> None:
        self._operations = dict(operations)
        self._allowed = frozenset(allowed)

    def find(self, name: str) -> Operation | None:
        """The operation, also one that is not allowed: what was begun is brought to its end."""
        return self._operations.get(name)

    @property
    def open_operations(self) -> list[str]:
        """What a job may ask for."""
        return sorted(self._operations.keys() & self._allowed)

    def judge(self, document: object) -> Judged:
        """Read a job document, which may be anything that JSON can hold."""
        try:
            job = parse_document(document)
        except ContractError as error:
            return Judged(refusal=f"the job document: {error}")
        operation = self._operations.get(job.operation)
        if operation is None:
            known = ", ".join(self.open_operations)
            return Judged(job.operation, refusal=f"unknown operation; this vehicle knows {known}")
        if job.operation not in self._allowed:
            return Judged(
                job.operation, refusal=f"[jobs] allow in the vehicle's config lacks {job.operation}"
            )
        try:
            operation.check(job.parameters)
        except JobRefusedError as error:
            return Judged(job.operation, refusal=str(error))
        except Exception as error:  # noqa: BLE001  logged in full
            # whatever is in the parameters, it is the job that suffers, not the agent
            _log.exception("the parameters of %s could not be judged", job.operation)
            return Judged(job.operation, refusal=f"the parameters: {error}")
        return Judged(job.operation, job.parameters)
