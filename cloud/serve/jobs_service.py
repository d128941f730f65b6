"""The jobs service: requests on reserved topics to the executions' store and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

from cloud.clock import Clock
from cloud.errors import JobsError, StoreError
from cloud.jobs.answers import error_document
from cloud.jobs.requests import client_token
from cloud.stores.announcements import Announcement
from cloud.stores.sqlite_job_executions import SqliteJobExecutions
from contract.jobs import JobTopics

log = logging.getLogger(__name__)


class JobsService:
    """A ``DeviceService``."""

    def __init__(self, executions: SqliteJobExecutions, clock: Clock) -> None:
        self._executions = executions
        self._clock = clock

    def takes(self, vehicle_id: str, topic: str) -> bool:
        """See ``DeviceService``."""
        return JobTopics(vehicle_id).parse(topic) is not None

    def answer(self, vehicle_id: str, topic: str, payload: bytes) -> Sequence[Announcement]:
        """See ``DeviceService``."""
        request = JobTopics(vehicle_id).parse(topic)
        if request is None:
            raise ValueError(topic)  # `takes` was not asked
        try:
            return self._executions.answer(vehicle_id, request, payload)
        except JobsError as error:
            return [self._rejection(topic, error)]
        except StoreError as error:
            log.error("the jobs of %s: %s", vehicle_id, error)  # noqa: TRY400  the reason is in the message
            token = client_token(payload)
            failure = JobsError("InternalError", "Internal service failure", client_token=token)
            return [self._rejection(topic, failure)]

    def refuse(
        self,
        vehicle_id: str,  # noqa: ARG002  stands in the topic
        topic: str,
        payload: bytes,
    ) -> Sequence[Announcement]:
        """See ``DeviceService``."""
        token = client_token(payload)
        error = JobsError("RequestThrottled", "Too many requests", client_token=token)
        return [self._rejection(topic, error)]

    def news(self) -> Sequence[Announcement]:
        """See ``DeviceService``: what took too long; operators' changes are announced for all."""
        return self._executions.expire()

    def _rejection(self, topic: str, error: JobsError) -> Announcement:
        document = error_document(error, int(self._clock.utc().timestamp()))
        return Announcement(JobTopics.rejected(topic), json.dumps(document).encode())
