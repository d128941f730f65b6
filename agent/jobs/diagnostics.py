"""``collect-diagnostics``: make a bundle (:mod:`agent.diagnostics`) and send it.

It is made by a process of its own: looking at the board takes memory that the agent would
not get back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from agent.child import run_python
from agent.jobs.operation import Job, JobRefusedError, Outcome, Unfinished, failure, success
from agent.jobs.patience import with_patience
from agent.transfer import FileClient, UrlError, place_of
from agent.transfer.client import digest_of
from contract.files import MAX_UPLOAD_BYTES

FOLDER: Final = "diagnostics"
MADE_WITHIN_S: Final = 300.0
_KNOWN: Final = frozenset({"upload_url", "with_samples"})


class DiagnosticsOperation:
    """Implements ``agent.jobs.operation.Operation``; ``own_log`` gives the agent's last lines."""

    def __init__(
        self, config_file: Path, state_dir: Path, files: FileClient, own_log: Callable[[], str]
    ) -> None:
        self._config_file = config_file.absolute()
        self._folder = state_dir / FOLDER
        self._files = files
        self._own_log = own_log

    def check(self, parameters: Mapping[str, Any]) -> None:
        """See the port."""
        if unknown := sorted(parameters.keys() - _KNOWN):
            raise JobRefusedError(f"collect-diagnostics knows no {', '.join(unknown)[:200]}")
        try:
            place_of(parameters.get("upload_url"))
        except UrlError as error:
            raise JobRefusedError(f"upload_url: {error}") from None
        if not isinstance(parameters.get("with_samples", False), bool):
            raise JobRefusedError("with_samples is true or false")

    def start(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        bundle = self._folder / f"{job.job_id}.tar.gz"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for left in self._folder.iterdir():
            left.unlink()
        job.tell(step="collect")
        problem = self._make(bundle, with_samples=bool(job.parameters.get("with_samples")))
        if problem:
            return failure(problem)
        size = bundle.stat().st_size
        if size > MAX_UPLOAD_BYTES:
            bundle.unlink()
            return failure(f"the bundle has {size} bytes, more than {MAX_UPLOAD_BYTES}")
        job.remember(step="made")
        return self._send(job, bundle)

    def resume(self, job: Job) -> Outcome | Unfinished:
        """See the port."""
        bundle = self._folder / f"{job.job_id}.tar.gz"
        if job.state.get("step") == "made" and bundle.exists():
            return self._send(job, bundle)
        return self.start(job)

    def _make(self, bundle: Path, *, with_samples: bool) -> str:
        more = ["--with-samples"] if with_samples else []
        try:
            done = run_python(
                *("-m", "agent", "diagnostics", "--config", str(self._config_file)),
                *("--out", str(bundle), "--log-from-stdin", *more),
                stdin=self._own_log().encode("utf-8", "replace"),
                timeout_s=MADE_WITHIN_S,
            )
        except (OSError, TimeoutError) as error:
            return f"the bundle was not made: {error}"
        if done.returncode:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason"]
            return f"the bundle was not made: {lines[-1]}"
        return ""

    def _send(self, job: Job, bundle: Path) -> Outcome | Unfinished:
        size, sha256 = bundle.stat().st_size, digest_of(bundle)

        def progress(have: int) -> bool:
            job.tell(step="upload", percent=str(100 * have // max(size, 1)))
            return job.ending is None

        ended = with_patience(
            job,
            "upload",
            lambda: self._files.upload(job.parameters["upload_url"], bundle, progress=progress),
        )
        if ended is Unfinished.LATER:
            return ended
        bundle.unlink(missing_ok=True)
        return ended or success(size_bytes=str(size), sha256=sha256)
