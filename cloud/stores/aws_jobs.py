"""Jobs on AWS, through AWS IoT's own service, as the operator sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from cloud.errors import JobsError, StoreError
from cloud.jobs.document import checked_document
from cloud.jobs.ports import ExecutionReport, JobReport, JobState, NewJob
from cloud.stores.aws_errors import code_of
from contract.jobs import JobStatus

AT_ONCE: Final = 4
"""Jobs that are looked at at the same time; AWS IoT answers about 10 such calls a second."""
LISTED: Final = 200
MAX_TARGETS: Final = 100
"""What one CreateJob takes."""

_STATES: Final = {
    "COMPLETED": JobState.COMPLETED,
    "CANCELED": JobState.CANCELED,
    "DELETION_IN_PROGRESS": JobState.CANCELED,
}
_REFUSALS: Final = {
    "InvalidRequestException": "InvalidRequest",
    "InvalidStateTransitionException": "InvalidRequest",
    "LimitExceededException": "LimitExceeded",
    "ResourceAlreadyExistsException": "ResourceAlreadyExists",
    "ResourceNotFoundException": "ResourceNotFound",
}


class AwsJobs:
    """``Jobs`` of the account and region that the client is made for."""

    def __init__(self, iot: Any) -> None:
        self._iot = iot

    def create(self, job: NewJob) -> None:
        """See ``cloud.jobs.ports.Jobs``."""
        text = checked_document(job)
        vehicle_ids = list(dict.fromkeys(job.vehicle_ids))
        if len(vehicle_ids) > MAX_TARGETS:
            raise JobsError(
                "InvalidRequest",
                f"{len(vehicle_ids)} vehicles",
                hint=f"AWS IoT takes {MAX_TARGETS} for one job: make several.",
            )
        targets = [self._thing_arn(vehicle_id) for vehicle_id in vehicle_ids]
        more: dict[str, Any] = {}
        if job.timeout_minutes is not None:
            more["timeoutConfig"] = {"inProgressTimeoutInMinutes": job.timeout_minutes}
        if job.description:
            more["description"] = job.description
        with _refused(f"job {job.job_id}", hint=f"See it: {_DESCRIBE.format(job.job_id)}"):
            self._iot.create_job(
                jobId=job.job_id,
                targets=targets,
                document=text,
                targetSelection="SNAPSHOT",
                **more,
            )

    def latest(self, vehicle_id: str | None = None) -> list[JobReport]:
        """See ``cloud.jobs.ports.Jobs``; without what the vehicles told."""
        with _refused("the list of jobs"):
            found = self._of_vehicle(vehicle_id) if vehicle_id else self._all()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="jobs") as threads:
            reports = threads.map(lambda job_id: self._report(job_id, vehicle_id), found)
            return sorted(reports, key=lambda one: one.created_at, reverse=True)

    def describe(self, job_id: str) -> JobReport:
        """See ``cloud.jobs.ports.Jobs``."""
        report = self._report(job_id)
        return report._replace(
            executions=[
                one._replace(details=self._details(job_id, one.vehicle_id))
                for one in report.executions
            ]
        )

    def cancel(self, job_id: str, *, force: bool = False) -> JobReport:
        """See ``cloud.jobs.ports.Jobs``."""
        if self._report(job_id).state is JobState.COMPLETED:
            raise JobsError("InvalidRequest", f"job {job_id} has ended on every vehicle")
        with _refused(f"job {job_id}"):
            self._iot.cancel_job(jobId=job_id, force=force)
        return self.describe(job_id)

    def _all(self) -> list[str]:
        """The ids of the latest; AWS IoT lists them in no order that it tells."""
        pages = self._iot.get_paginator("list_jobs").paginate()
        jobs = [one for page in pages for one in page["jobs"]]
        jobs.sort(key=lambda one: one["createdAt"], reverse=True)
        return [one["jobId"] for one in jobs[:LISTED]]

    def _of_vehicle(self, vehicle_id: str) -> list[str]:
        pages = self._iot.get_paginator("list_job_executions_for_thing").paginate(
            thingName=vehicle_id
        )
        found = [one for page in pages for one in page["executionSummaries"]]
        found.sort(key=lambda one: one["jobExecutionSummary"]["queuedAt"], reverse=True)
        return [one["jobId"] for one in found[:LISTED]]

    def _report(self, job_id: str, vehicle_id: str | None = None) -> JobReport:
        with _refused(f"job {job_id}", hint="List them: milepost-cloud jobs list --aws"):
            job = self._iot.describe_job(jobId=job_id)["job"]
            document = _object(self._iot.get_job_document(jobId=job_id)["document"])
            pages = self._iot.get_paginator("list_job_executions_for_job").paginate(jobId=job_id)
            summaries = [one for page in pages for one in page["executionSummaries"]]
        executions = [_execution(one) for one in summaries]
        return JobReport(
            job_id=job_id,
            operation=str(document.get("operation", "")),
            parameters=_object(document.get("parameters")),
            description=job.get("description", ""),
            state=_STATES.get(job["status"], JobState.IN_PROGRESS),
            created_at=job["createdAt"],
            executions=sorted(
                (one for one in executions if vehicle_id in {None, one.vehicle_id}),
                key=lambda one: one.vehicle_id,
            ),
        )

    def _details(self, job_id: str, vehicle_id: str) -> Mapping[str, str]:
        with _refused(f"job {job_id}"):
            answer = self._iot.describe_job_execution(jobId=job_id, thingName=vehicle_id)
        details: dict[str, str] = answer["execution"].get("statusDetails", {}).get("detailsMap", {})
        return details

    def _thing_arn(self, vehicle_id: str) -> str:
        with _refused(
            f"vehicle {vehicle_id}", hint="milepost-cloud fleet list --aws shows the vehicles"
        ):
            return str(self._iot.describe_thing(thingName=vehicle_id)["thingArn"])


_DESCRIBE: Final = "milepost-cloud jobs describe --aws {}"


def _execution(summary: Mapping[str, Any]) -> ExecutionReport:
    told = summary["jobExecutionSummary"]
    queued_at: datetime = told["queuedAt"]
    return ExecutionReport(
        vehicle_id=summary["thingArn"].rpartition("/")[2],
        status=JobStatus(told["status"]),
        details={},
        queued_at=queued_at,
        started_at=told.get("startedAt"),
        updated_at=told.get("lastUpdatedAt", queued_at),
        version=told.get("versionNumber", told.get("executionNumber", 1)),
    )


def _object(value: object) -> dict[str, Any]:
    """A JSON object, or its text; anything else, of a job that is not ours, is empty."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def _refused(what: str, *, hint: str = "") -> Iterator[None]:
    """AWS IoT's refusals as ``JobsError``, everything else as ``StoreError``."""
    try:
        yield
    except ClientError as error:
        code = _REFUSALS.get(code_of(error))
        if code is None:
            raise StoreError(f"AWS IoT: {error}", hint="Try again.") from error
        reason = error.response["Error"].get("Message") or str(error)
        raise JobsError(code, f"{what}: {reason}", hint=hint) from error
    except BotoCoreError as error:
        raise StoreError(
            f"AWS IoT cannot be asked: {error}",
            hint="Are region and credentials set, e.g. by AWS_PROFILE and AWS_REGION?",
        ) from error
