"""A job for operations, without a cloud; its waits cost no time."""

import json


class FakeJob:
    """Implements ``agent.jobs.operation.Job``; ``on_wait`` is called at each wait."""

    def __init__(self, parameters, *, job_id="job-1", state=None, on_wait=lambda _: None):
        self.job_id = job_id
        self.parameters = parameters
        self.state = state or {}
        self.told = []
        self.waits = []
        self.ending = None
        self._on_wait = on_wait

    def remember(self, **state):
        self.state = json.loads(json.dumps(state))

    def tell(self, **details):
        self.told.append(details)

    def wait(self, duration_s):
        self.waits.append(duration_s)
        assert len(self.waits) < 100_000, "it waits for ever"
        self._on_wait(self)
        return self.ending
