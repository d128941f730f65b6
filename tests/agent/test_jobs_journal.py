"""The journal of the job at hand."""

import json

import pytest

from agent.errors import StateError
from agent.jobs.journal import Entry, Journal, Step
from contract.jobs import JobStatus

JOB = Entry("job-1", 1, "restart", {"delay_s": 3})


@pytest.mark.parametrize(
    "entry",
    [
        JOB,
        Entry("job-1", 2, "update", {}, Step.RUNNING, {"file": "a.deb", "percent": 40}, 3),
        JOB.ended(JobStatus.SUCCEEDED, {"took_s": "3"}),
        JOB.ended(JobStatus.REJECTED, {"reason": "no"}),
    ],
    ids=lambda entry: entry.step.value,
)
def test_a_later_process_finds_what_was_kept(tmp_path, entry):
    Journal(tmp_path).save(entry)
    assert Journal(tmp_path).load() == entry


def test_without_a_job_there_is_none(tmp_path):
    assert Journal(tmp_path).load() is None


def test_a_job_that_was_told_of_leaves_only_a_note_for_people(tmp_path):
    journal = Journal(tmp_path)
    journal.save(JOB)
    journal.remove(JOB.ended(JobStatus.FAILED, {"reason": "no"}))
    assert journal.load() is None
    note = json.loads((tmp_path / "jobs" / "last.json").read_text())
    assert (note["job_id"], note["status"]) == ("job-1", "FAILED")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"format": 2}',
        b'{"format": 1}',
        (
            b'{"format": 1, "step": "running", "status": "IN_PROGRESS", "job_id": 5,'
            b' "execution_number": 1, "operation": "restart"}'
        ),
        (
            b'{"format": 1, "step": "ended", "status": "IN_PROGRESS", "job_id": "a",'
            b' "execution_number": 1, "operation": "restart"}'
        ),
        b"[" * 100_000,
    ],
    ids=range(9),
)
def test_a_damaged_journal_is_set_aside_and_is_no_job(tmp_path, damage, caplog):
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs" / "current.json"
    path.write_bytes(damage)
    assert Journal(tmp_path).load() is None
    assert not path.exists()
    assert path.with_name("current.json.damaged").read_bytes() == damage
    assert "damaged" in caplog.text


def test_what_cannot_be_kept_is_an_error_and_the_old_entry_stays(tmp_path):
    journal = Journal(tmp_path)
    journal.save(JOB)
    with pytest.raises(StateError, match="job-1"):
        journal.save(Entry("job-1", 1, "restart", state={"x": float("nan")}))
    (tmp_path / "jobs" / "current.json.new").mkdir()
    with pytest.raises(StateError, match="disk"):
        journal.save(JOB.ended(JobStatus.SUCCEEDED, {}))
    assert journal.load() == JOB
