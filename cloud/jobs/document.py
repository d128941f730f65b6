"""The document of a job that an operator makes, checked. Pure."""

from __future__ import annotations

import json

from cloud.errors import JobsError
from cloud.jobs.ports import NewJob
from cloud.jobs.requests import MAX_STEP_MINUTES
from contract.errors import ContractError
from contract.jobs import JOB_ID, MAX_DOCUMENT_BYTES, parse_document


def checked_document(job: NewJob) -> str:
    """The document's text.

    Raises:
        JobsError: InvalidRequest.
    """

    def refuse(reason: str) -> JobsError:
        return JobsError("InvalidRequest", reason)

    text = json.dumps(job.document.to_json(), separators=(",", ":"))
    try:
        parse_document(text)
    except ContractError as error:
        raise refuse(f"the job document: {error}") from None
    if len(text) > MAX_DOCUMENT_BYTES:
        raise refuse(f"the job document has {len(text)} bytes; {MAX_DOCUMENT_BYTES} are allowed")
    if not JOB_ID.fullmatch(job.job_id):
        raise refuse(f"{job.job_id!r} is no job id: 1 to 64 letters, digits, - and _")
    if not job.vehicle_ids:
        raise refuse("a job needs a vehicle")
    if job.timeout_minutes is not None and not 1 <= job.timeout_minutes <= MAX_STEP_MINUTES:
        raise refuse(f"a job's timeout is 1 to {MAX_STEP_MINUTES} minutes")
    return text
