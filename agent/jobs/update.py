"""``update``: fetch a signed package and have root's updater install it.

The agent decides nothing here: the updater (:mod:`agent.updater`) verifies, installs,
looks whether the new version is well, and rolls back. In its midst this process is
restarted, as the new version or the old one, and goes on waiting for the result.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.files import write_atomically
from agent.jobs.operation import Ending, Job, JobRefusedError, Outcome, Unfinished, failure, success
from agent.jobs.patience import with_patience
from agent.transfer import FileClient, UrlError, place_of
from contract.files import MAX_ARTIFACT_BYTES

INBOX: Final = "update"
PACKAGE: Final = "package.deb"
REQUEST: Final = "request.json"
TAKEN: Final = "taken.json"
WITHDRAWN: Final = "withdrawn.json"
RESULT: Final = "result.json"
"""As in ``agent.updater.inbox``, the other side of it."""

MARGIN_BYTES: Final = 32 * 1024 * 1024
TAKEN_WITHIN_S: Final = 300.0
"""The updater's unit is started as soon as the request is there."""
INSTALLED_WITHIN_S: Final = 7_200.0
"""And with the time to be healthy; longer means that something hangs."""
HEALTH_TIMEOUT_S: Final = (30.0, 86_400.0)
POLL_S: Final = 1.0

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[0-9][A-Za-z0-9.+:~-]{0,127}")
_KNOWN: Final = frozenset(
    {
        *("version", "url", "sha256", "size_bytes", "signature"),
        *("architecture", "downgrade", "health_timeout_s"),
    }
)


class UpdateOperation:
    """Implements ``agent.jobs.operation.Operation``.

    ``architecture`` gives the board's own, as dpkg calls it, or an empty text.
    """

    def __init__(
        self,
        state_dir: Path,
        files: FileClient,
        architecture: Callable[[], str],
        *,
        taken_within_s: float = TAKEN_WITHIN_S,
    ) -> None:
        self._inbox = state_dir / INBOX
        self._files = files
        self._architecture = architecture
        self._taken_within_s = taken_within_s

    def check(self, parameters: Mapping[str, Any]) -> None:
        """See the port."""
        if unknown := sorted(parameters.keys() - _KNOWN):
            raise JobRefusedError(f"update knows no {', '.join(unknown)[:200]}")
        try:
            place_of(parameters.get("url"))
        except UrlError as error:
            raise JobRefusedError(f"url: {error}") from None
        for name, pattern in (("version", _VERSION), ("sha256", _SHA256)):
            value = parameters.get(name)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise JobRefusedError(f"{name} is missing or cannot be one")
        size = parameters.get("size_bytes")
        if type(size) is not int or not 0 < size <= MAX_ARTIFACT_BYTES:
            raise JobRefusedError(f"size_bytes is 1 to {MAX_ARTIFACT_BYTES}")
        if not isinstance(parameters.get("signature"), str):
            raise JobRefusedError("signature is missing: sign with `milepost-cloud release sign`")
        if not isinstance(parameters.get("downgrade", False), bool):
            raise JobRefusedError("downgrade is true or false")
        timeout_s = parameters.get("health_timeout_s", 900)
        low_s, high_s = HEALTH_TIMEOUT_S
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
            raise JobRefusedError("health_timeout_s is a number")
        if not low_s <= timeout_s <= high_s:
            raise JobRefusedError(f"health_timeout_s is {low_s:g} to {high_s:g}")

    def start(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        wanted, own = job.parameters.get("architecture"), self._architecture()
        if not own:
            return failure("this vehicle has no dpkg: it was not installed as a Debian package")
        if wanted not in {None, own}:
            return failure(f"the package is for {wanted}, and this board is {own}")
        self._inbox.mkdir(mode=0o700, exist_ok=True)
        for name in (REQUEST, WITHDRAWN, RESULT, PACKAGE):
            (self._inbox / name).unlink(missing_ok=True)
        size = int(job.parameters["size_bytes"])
        if (free := shutil.disk_usage(self._inbox).free) < size + MARGIN_BYTES:
            return failure(
                f"{free // 1_000_000} MB are free, and the package has {size // 1_000_000} MB"
            )
        ended = with_patience(job, "download", lambda: self._download(job, size))
        if ended is not None:
            if ended is not Unfinished.LATER:
                self._part.unlink(missing_ok=True)
            return ended
        job.remember(step="requested")
        self._write_request(job)
        return self._await_result(job)

    def resume(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        if job.state.get("step") != "requested":
            return self.start(job)
        there = {name for name in (REQUEST, TAKEN, RESULT) if (self._inbox / name).exists()}
        if not there and (self._inbox / PACKAGE).exists():
            self._write_request(job)  # cut off just before it was written
        elif not there:
            return failure("the files of the update are gone, and no result was left")
        return self._await_result(job)

    @property
    def _part(self) -> Path:
        return self._inbox / f"{PACKAGE}.part"

    def _download(self, job: Job, size: int) -> None:
        def progress(have: int) -> bool:
            job.tell(step="download", percent=str(100 * have // size))
            return job.ending is None

        self._files.download(
            job.parameters["url"],
            self._inbox / PACKAGE,
            size_bytes=size,
            sha256=job.parameters["sha256"],
            progress=progress,
        )

    def _write_request(self, job: Job) -> None:
        request = {
            "job_id": job.job_id,
            "version": job.parameters["version"],
            "signature": job.parameters["signature"],
            "downgrade": job.parameters.get("downgrade", False),
            "health_timeout_s": job.parameters.get("health_timeout_s", 900),
        }
        write_atomically(self._inbox / REQUEST, json.dumps(request).encode())

    def _await_result(self, job: Job) -> Outcome | Unfinished:
        waited_s = 0.0
        longest_s = INSTALLED_WITHIN_S + float(job.parameters.get("health_timeout_s", 900))
        while (result := self._result_of(job)) is None:
            if job.ending is Ending.STOPPING:
                return Unfinished.LATER
            if job.ending is Ending.CANCELED:
                self._withdraw()
                return failure("canceled")
            if waited_s >= self._taken_within_s and self._withdraw():
                return failure(
                    "the updater does not take the request: is milepost-update.path enabled?"
                )
            if waited_s >= longest_s:
                return failure("the updater has left no result: see journalctl -u milepost-update")
            job.tell(step="install" if (self._inbox / TAKEN).exists() else "handed over")
            job.wait(POLL_S)
            waited_s += POLL_S
        return result

    def _withdraw(self) -> bool:
        """Whether the request was still there; what the updater has taken it finishes."""
        with contextlib.suppress(FileNotFoundError):
            (self._inbox / REQUEST).replace(self._inbox / WITHDRAWN)
            (self._inbox / PACKAGE).unlink(missing_ok=True)
            return True
        return False

    def _result_of(self, job: Job) -> Outcome | None:
        try:
            result = json.loads((self._inbox / RESULT).read_bytes())
            if result["job_id"] != job.job_id:
                return None
            versions = {"from": str(result["from_version"]), "version": str(result["to_version"])}
            told = {name: value for name, value in versions.items() if value}
            if result["succeeded"]:
                return success(**told, note=str(result["reason"]))
            return failure(str(result["reason"]), **told)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            return failure("the updater's result cannot be read")
