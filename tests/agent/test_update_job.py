import hashlib
import json

import pytest

from agent.health_mark import HealthMark
from agent.host import boot_id
from agent.jobs.operation import Ending, JobRefusedError, Unfinished
from agent.jobs.patience import LONGEST_PAUSE_S, MOST_TRIES, with_patience
from agent.jobs.update import UpdateOperation
from agent.transfer import TransferError
from agent.updater.board import Board
from agent.updater.health import _is_acknowledged, boottime_s
from tests.fakes.job import FakeJob

CONTENT = b"a package"
GOOD = {
    "version": "2.0-1",
    "url": "broker://:8884/artifacts/abc",
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "size_bytes": len(CONTENT),
    "signature": "c2lnbmF0dXJl",
}


class Files:
    """Downloads at once, or fails in the ways that are given first."""

    def __init__(self, *problems):
        self.problems = list(problems)
        self.fetched = 0

    def download(self, url, target, *, size_bytes, sha256, progress):
        progress(0)
        if self.problems:
            raise self.problems.pop(0)
        self.fetched += 1
        target.write_bytes(CONTENT)


def operation(tmp_path, *problems, architecture="arm64"):
    files = Files(*problems)
    made = UpdateOperation(tmp_path, files, lambda: architecture, taken_within_s=5)
    made.check(GOOD)
    return made, files, tmp_path / "update"


def answering(inbox, **result):
    """The updater takes the request at the first wait and answers at the second."""

    def on_wait(job):
        if (inbox / "request.json").exists():
            (inbox / "request.json").rename(inbox / "taken.json")
        elif (inbox / "taken.json").exists():
            told = {"from_version": "1.0-1", "to_version": "2.0-1", "reason": "", **result}
            (inbox / "result.json").write_text(json.dumps({"job_id": job.job_id, **told}))
            (inbox / "taken.json").unlink()

    return on_wait


def test_the_package_is_fetched_handed_over_and_the_result_told(tmp_path):
    update, _, inbox = operation(tmp_path)
    job = FakeJob(GOOD, on_wait=answering(inbox, succeeded=True))
    outcome = update.start(job)
    assert outcome.succeeded
    assert outcome.details["from"] == "1.0-1"
    assert (inbox / "package.deb").read_bytes() == CONTENT


def test_the_updaters_reason_is_told(tmp_path):
    update, _, inbox = operation(tmp_path)
    job = FakeJob(GOOD, on_wait=answering(inbox, succeeded=False, reason="rolled back"))
    outcome = update.start(job)
    assert not outcome.succeeded
    assert outcome.details["reason"] == "rolled back"


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://example.com/x"},
        {"url": None},
        {"version": "../2.0"},
        {"version": 2},
        {"sha256": "ABC"},
        {"size_bytes": 0},
        {"size_bytes": True},
        {"size_bytes": 10**12},
        {"signature": None},
        {"downgrade": "yes"},
        {"health_timeout_s": 1},
        {"health_timeout_s": "900"},
        {"post_install": "rm -rf /"},
    ],
)
def test_parameters_that_cannot_be_are_refused(tmp_path, changes):
    update, _, _ = operation(tmp_path)
    with pytest.raises(JobRefusedError):
        update.check({**GOOD, **changes})


def test_a_package_for_another_board_is_not_even_fetched(tmp_path):
    update, files, _ = operation(tmp_path, architecture="armhf")
    outcome = update.start(FakeJob({**GOOD, "architecture": "arm64"}))
    assert "armhf" in outcome.details["reason"]
    assert files.fetched == 0


def test_a_vehicle_without_dpkg_says_so(tmp_path):
    update, _, _ = operation(tmp_path, architecture="")
    assert "dpkg" in update.start(FakeJob(GOOD)).details["reason"]


def test_an_updater_that_does_not_run_is_told_and_the_request_withdrawn(tmp_path):
    update, _, inbox = operation(tmp_path)
    outcome = update.start(FakeJob(GOOD))
    assert "milepost-update.path" in outcome.details["reason"]
    assert {path.name for path in inbox.iterdir()} == {"withdrawn.json"}


def test_a_result_of_an_earlier_job_does_not_count(tmp_path):
    update, _, inbox = operation(tmp_path)
    inbox.mkdir()
    (inbox / "result.json").write_text('{"job_id": "job-1", "succeeded": true}')
    assert not update.start(FakeJob(GOOD)).succeeded


def stopping(job):
    job.ending = Ending.STOPPING


def test_the_agents_own_restart_in_its_midst_is_survived(tmp_path):
    update, files, inbox = operation(tmp_path)
    job = FakeJob(GOOD, on_wait=stopping)
    assert update.start(job) is Unfinished.LATER
    later = FakeJob(GOOD, state=job.state, on_wait=answering(inbox, succeeded=True))
    assert update.resume(later).succeeded
    assert files.fetched == 1


def test_a_power_cut_before_the_request_was_written_is_made_good(tmp_path):
    update, files, inbox = operation(tmp_path)
    inbox.mkdir()
    (inbox / "package.deb").write_bytes(CONTENT)
    job = FakeJob(GOOD, state={"step": "requested"}, on_wait=answering(inbox, succeeded=True))
    assert update.resume(job).succeeded
    assert files.fetched == 0


def test_a_power_cut_during_the_download_goes_on_with_it(tmp_path):
    update, files, inbox = operation(tmp_path)
    job = FakeJob(GOOD, on_wait=answering(inbox, succeeded=True))
    assert update.resume(job).succeeded
    assert files.fetched == 1


def test_an_inbox_that_was_wiped_ends_the_job(tmp_path):
    update, _, _ = operation(tmp_path)
    outcome = update.resume(FakeJob(GOOD, state={"step": "requested"}))
    assert "gone" in outcome.details["reason"]


def test_a_canceled_update_is_withdrawn_unless_the_updater_has_it(tmp_path):
    update, _, inbox = operation(tmp_path)

    def cancel(job):
        job.ending = Ending.CANCELED

    assert not update.start(FakeJob(GOOD, on_wait=cancel)).succeeded
    assert not (inbox / "request.json").exists()


def test_a_network_that_fails_is_tried_again_ever_more_slowly(tmp_path):
    problems = [TransferError("no route", retry=True)] * 9
    update, files, inbox = operation(tmp_path, *problems)
    job = FakeJob(GOOD, on_wait=answering(inbox, succeeded=True))
    assert update.start(job).succeeded
    assert files.fetched == 1
    assert job.waits[:9] == [5, 10, 20, 40, 80, 160, *[LONGEST_PAUSE_S] * 3]
    assert {"step": "download", "waits": "no route"} in job.told


def test_what_cannot_be_had_is_not_tried_again(tmp_path):
    update, _, _ = operation(tmp_path, TransferError("403: expired", retry=False))
    job = FakeJob(GOOD)
    outcome = update.start(job)
    assert "403: expired" in outcome.details["reason"]
    assert job.waits == []


@pytest.mark.parametrize("ending", Ending)
def test_patience_ends_when_the_job_does(ending):
    job = FakeJob({})

    def transfer():
        job.ending = ending
        raise TransferError("stopped", retry=True)

    ended = with_patience(job, "download", transfer)
    assert (ended is Unfinished.LATER) == (ending is Ending.STOPPING)


def test_patience_is_not_endless():
    def transfer():
        raise TransferError("no route", retry=True)

    job = FakeJob({})
    assert "given up" in with_patience(job, "upload", transfer).details["reason"]
    assert len(job.waits) == MOST_TRIES


def test_a_full_disk_ends_the_job():
    def transfer():
        raise OSError(28, "No space left on device")

    assert "No space" in with_patience(FakeJob({}), "download", transfer).details["reason"]


def test_the_mark_of_a_run_is_what_the_updater_looks_for(tmp_path):
    before_s = boottime_s()
    HealthMark(tmp_path, boot_id=boot_id(), run_id="abc").acknowledged()
    mark = tmp_path / "health.json"
    assert _is_acknowledged(mark, before_s)
    assert not _is_acknowledged(mark, boottime_s())
    HealthMark(tmp_path, boot_id="another boot", run_id="abc").acknowledged()
    assert not _is_acknowledged(mark, before_s)
    assert Board().health_mark.name == mark.name
