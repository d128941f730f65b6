"""Files of jobs over a bad network: try again, slower and slower, until it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.jobs.operation import Ending, Job, Outcome, Unfinished, failure
from agent.transfer import TransferError

FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
MOST_TRIES: Final = 500
"""About 40 hours of a network that is there and does not carry the file."""


def with_patience(job: Job, step: str, transfer: Callable[[], None]) -> Outcome | Unfinished | None:
    """Call ``transfer`` until it succeeds; ``None`` then, else how the job ends for now."""
    pause_s = FIRST_PAUSE_S
    for _ in range(MOST_TRIES):
        try:
            transfer()
        except TransferError as error:
            problem = error
        except OSError as error:
            return failure(f"{step}: {error.strerror or error}")
        else:
            return None
        if job.ending is None:
            if not problem.retry:
                return failure(f"{step}: {problem.message}")
            job.tell(step=step, waits=problem.message)
            job.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if job.ending is Ending.STOPPING:
            return Unfinished.LATER
        if job.ending is Ending.CANCELED:
            return failure("canceled")
    return failure(f"{step}: given up after {MOST_TRIES} tries; the last: {problem.message}")
