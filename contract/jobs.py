"""Jobs: what an operator asks one vehicle to do once. Reserved topics, and our job document.

AWS IoT Jobs ("Jobs device MQTT API operations" in its developer guide); the one-machine
cloud answers on the same topics. A job's document says which operation is to be carried
out with which parameters; what the operations are is in ``docs/jobs.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from contract.errors import ContractError

JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
NEXT: Final = "$next"
"""Stands for a job id in a ``get``: the job that is in progress, else the oldest queued one."""

DOCUMENT_VERSION: Final = 1
MAX_DOCUMENT_BYTES: Final = 32 * 1024
"""AWS IoT Jobs' own limit."""

MAX_DOCUMENT_LEVELS: Final = 12
MAX_DETAILS: Final = 10
MAX_DETAIL_KEY: Final = 128
MAX_DETAIL_VALUE: Final = 1_024
"""Of ``statusDetails``: pairs, and characters; AWS IoT Jobs' own limits."""

DETAIL_KEY_PATTERN: Final = r"^[A-Za-z0-9:_-]{1,128}$"

_OPERATION: Final = re.compile(r"^[a-z][a-z0-9-]{0,63}$")

Json = dict[str, Any]


class JobStatus(StrEnum):
    """Where the execution of a job on one vehicle stands."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    """The vehicle will not do it; it was not begun."""
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"
    REMOVED = "REMOVED"

    @property
    def is_terminal(self) -> bool:
        """Whether it stays."""
        return self not in {JobStatus.QUEUED, JobStatus.IN_PROGRESS}


TOLD_BY_VEHICLE: Final = frozenset(
    {JobStatus.IN_PROGRESS, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.REJECTED}
)
"""What an ``update`` may ask for; the others are the cloud's to set."""


@dataclass(frozen=True, slots=True)
class JobTopics:
    """The topics of one vehicle's jobs."""

    vehicle_id: str

    @property
    def prefix(self) -> str:
        """What all of them begin with."""
        return f"$aws/things/{self.vehicle_id}/jobs/"

    @property
    def get(self) -> str:
        """Ask for the list of pending jobs."""
        return f"{self.prefix}get"

    @property
    def start_next(self) -> str:
        """Ask for the next job and say that it begins."""
        return f"{self.prefix}start-next"

    @property
    def notify(self) -> str:
        """The list of pending jobs, when one was added or has ended."""
        return f"{self.prefix}notify"

    @property
    def notify_next(self) -> str:
        """The next job, when it is another one than before."""
        return f"{self.prefix}notify-next"

    def get_job(self, job_id: str) -> str:
        """Ask for one job with its document; ``NEXT`` for the next."""
        return f"{self.prefix}{job_id}/get"

    def update(self, job_id: str) -> str:
        """Say how a job stands."""
        return f"{self.prefix}{job_id}/update"

    @staticmethod
    def accepted(request: str) -> str:
        """Where a request is answered when it was carried out."""
        return f"{request}/accepted"

    @staticmethod
    def rejected(request: str) -> str:
        """Where it is answered with a code and a message otherwise."""
        return f"{request}/rejected"

    def parse(self, topic: str) -> JobRequest | None:
        """The request that a topic is for; ``None`` if it is none of this vehicle's."""
        if not topic.startswith(self.prefix):
            return None
        match topic.removeprefix(self.prefix).split("/"):
            case ["get"]:
                return JobRequest(JobAction.GET_PENDING)
            case ["start-next"]:
                return JobRequest(JobAction.START_NEXT)
            case [job_id, "get"] if job_id == NEXT or JOB_ID.fullmatch(job_id):
                return JobRequest(JobAction.DESCRIBE, job_id)
            case [job_id, "update"] if JOB_ID.fullmatch(job_id):
                return JobRequest(JobAction.UPDATE, job_id)
        return None

    def may_hear(self, topic_filter: str) -> bool:
        """Whether a filter holds nothing but what this vehicle is told of its jobs.

        A ``+`` may stand for the job id.
        """
        if topic_filter in {self.notify, self.notify_next}:
            return True
        request, _, end = topic_filter.rpartition("/")
        if end not in {"accepted", "rejected"}:
            return False
        if request.startswith(f"{self.prefix}+/"):
            request = f"{self.prefix}any/{request.removeprefix(f'{self.prefix}+/')}"
        return self.parse(request) is not None


class JobAction(StrEnum):
    """What a vehicle may ask of the jobs' service; the names of AWS IoT's operations."""

    GET_PENDING = "GetPendingJobExecutions"
    START_NEXT = "StartNextPendingJobExecution"
    DESCRIBE = "DescribeJobExecution"
    UPDATE = "UpdateJobExecution"


@dataclass(frozen=True, slots=True)
class JobRequest:
    """An action, and the job it is about where it is about one; ``NEXT`` is possible."""

    action: JobAction
    job_id: str = ""


class OperationName(StrEnum):
    """The operations of this version; a vehicle rejects any other with the reason."""

    RESTART = "restart"
    ROTATE = "rotate"
    APPLY_CONFIG = "apply-config"
    UPDATE = "update"
    COLLECT_DIAGNOSTICS = "collect-diagnostics"


@dataclass(frozen=True, slots=True)
class JobDocument:
    """What is to be done. ``parameters`` are the operation's own to judge."""

    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> Json:
        """As it is sent."""
        return {
            "schema_version": DOCUMENT_VERSION,
            "operation": self.operation,
            "parameters": dict(self.parameters),
        }


def parse_document(document: object) -> JobDocument:
    """Read a job document: an object, or its JSON as text.

    Raises:
        ContractError: it is none, is of another version, or larger or deeper than allowed.
    """
    if isinstance(document, str):
        if len(document.encode("utf-8", "replace")) > MAX_DOCUMENT_BYTES:
            raise _too_large()
        try:
            document = json.loads(document)
        except (ValueError, RecursionError):
            raise ContractError("document", "is no JSON") from None
    if not isinstance(document, dict):
        raise ContractError("document", "is no object")
    _check_depth(document)
    try:
        size = len(json.dumps(document, allow_nan=False, separators=(",", ":")).encode())
    except ValueError:
        raise ContractError("document", "holds numbers that are none") from None
    if size > 2 * MAX_DOCUMENT_BYTES:  # escapes make it longer than it was
        raise _too_large()
    version = document.get("schema_version")
    if type(version) is not int or version != DOCUMENT_VERSION:
        raise ContractError("schema_version", f"is {str(version)[:40]}, not {DOCUMENT_VERSION}")
    operation = document.get("operation")
    if not isinstance(operation, str) or not _OPERATION.fullmatch(operation):
        raise ContractError("operation", "is no name of an operation")
    parameters = document.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ContractError("parameters", "is no object")
    return JobDocument(operation, parameters)


def details(values: Mapping[str, object]) -> dict[str, str]:
    """``statusDetails`` that the service takes, from any texts; what is too much is cut off.

    Keys keep their order, empty values are left out, characters that AWS IoT refuses
    (control characters and line breaks) become spaces.
    """
    told: dict[str, str] = {}
    for key, value in values.items():
        text = "".join(one if one.isprintable() else " " for one in str(value)).strip()
        name = re.sub(r"[^A-Za-z0-9:_-]", "_", key)[:MAX_DETAIL_KEY]
        if text and name and len(told) < MAX_DETAILS:
            told[name] = (
                text if len(text) <= MAX_DETAIL_VALUE else text[: MAX_DETAIL_VALUE - 1] + "…"
            )
    return told


def _too_large() -> ContractError:
    return ContractError("document", f"is larger than {MAX_DOCUMENT_BYTES} bytes")


def _check_depth(document: Json) -> None:
    layer: list[Any] = [document]
    for _ in range(MAX_DOCUMENT_LEVELS):
        layer = [inner for value in layer for inner in _inside(value)]
        if not layer:
            return
    raise ContractError("document", f"is nested deeper than {MAX_DOCUMENT_LEVELS} levels")


def _inside(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
