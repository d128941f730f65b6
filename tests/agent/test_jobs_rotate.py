"""The operation ``rotate``, with a rotation that the test conducts."""

import threading
from types import SimpleNamespace

import pytest

from agent.errors import IdentityError
from agent.jobs.journal import Entry, Journal, Step
from agent.jobs.operation import Ending, JobRefusedError, Unfinished
from agent.jobs.rotate import RotateOperation
from agent.jobs.worker import Worker
from tests.fakes.one_machine import wait_until


class FakeRotation:
    """Implements ``Rotates``."""

    def __init__(self):
        self.certificate_id = "old"
        self.requests, self.observers = [], []
        self.obstacle = None

    def request(self, reason):
        if self.obstacle is not None:
            raise self.obstacle
        self.requests.append(reason)

    def observe(self, on_end):
        self.observers.append(on_end)
        return lambda: self.observers.remove(on_end)

    def end(self, *, succeeded, reason=""):
        if succeeded:
            self.certificate_id = "new"
        for one in list(self.observers):
            one(SimpleNamespace(succeeded=succeeded, reason=reason))


class Scene:
    """The operation at work in the worker's thread."""

    def __init__(self, folder):
        self.rotation, self.goes_on, self.kept = FakeRotation(), False, "old"
        self.operation = RotateOperation(
            self.rotation, kept=lambda: self.kept, goes_on=lambda: self.goes_on
        )
        self.results, self.done = [], threading.Event()
        self.journal = Journal(folder)
        self.worker = Worker(self.journal, returned=self._finished, told=lambda _: None)

    def begin(self, resumes=0, **state):
        entry = Entry("job-1", 1, "rotate", step=Step.RUNNING, state=state, resumes=resumes)
        self.journal.save(entry)
        self.worker.begin(entry, self.operation)

    def asked(self):
        wait_until(lambda: self.rotation.requests, "the request")

    def result(self):
        assert self.done.wait(20)
        assert self.rotation.observers == []
        return self.results[0]

    def _finished(self, entry, result):
        self.results.append(result)
        self.done.set()


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_it_is_done_when_another_certificate_is_in_use(scene):
    scene.begin()
    scene.asked()
    assert scene.rotation.requests == ["job job-1"]
    scene.rotation.end(succeeded=True)
    assert scene.result().succeeded
    assert scene.result().details == {"certificate": "new", "certificate_before": "old"}


def test_a_rotation_that_fails_fails_the_job_with_its_reason(scene):
    scene.begin()
    scene.asked()
    scene.rotation.end(succeeded=False, reason="the hook refuses")
    assert scene.result().details == {"reason": "the hook refuses", "certificate": "as before"}


def test_an_identity_that_cannot_be_rotated_fails_at_once(scene):
    scene.rotation.obstacle = IdentityError("the config names it")
    scene.begin()
    assert scene.result().details["reason"] == "the config names it"


@pytest.mark.parametrize("ending", list(Ending))
def test_an_end_from_outside_leaves_the_rotation_to_itself(scene, ending):
    scene.begin()
    scene.asked()
    scene.worker.end(ending)
    assert scene.result() is Unfinished.LATER


def test_a_later_process_finds_the_new_certificate(scene):
    scene.kept, scene.rotation.certificate_id = "new", ""  # not read yet
    scene.begin(resumes=1, certificate_before="old")
    wait_until(lambda: scene.rotation.observers, "the observer")
    scene.rotation.certificate_id = "new"
    assert scene.result().succeeded
    assert scene.rotation.requests == []


def test_a_later_process_leaves_what_goes_on_by_itself_alone_and_asks_for_what_does_not(scene):
    scene.goes_on = True
    scene.begin(resumes=1, certificate_before="old")
    wait_until(lambda: scene.rotation.observers, "the observer")
    scene.rotation.end(succeeded=True)
    assert scene.result().succeeded
    assert scene.rotation.requests == []
    scene.rotation.certificate_id, scene.goes_on = "old", False
    scene.results.clear()
    scene.done.clear()
    scene.begin(resumes=1, certificate_before="old")
    scene.asked()
    scene.rotation.end(succeeded=True)
    assert scene.result().succeeded


def test_parameters_are_refused(scene):
    with pytest.raises(JobRefusedError):
        scene.operation.check({"a": 1})
