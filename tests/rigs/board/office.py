"""The operator's office: the real one-machine cloud, and the commands that are typed there."""

import contextlib
import json

from tests.fakes.one_machine import CloudProcess, milepost_cloud
from tests.rigs.board.errors import RigError

VEHICLE = "van-17"
HOST = "10.0.2.2"
"""This machine's loopback, as a guest sees it."""

COMMAND_S = 1800.0
"""At most for a command; an update waits for the board."""


class Office:
    """``milepost-cloud serve`` with its data below ``folder``; a context manager."""

    def __init__(self, folder):
        self.folder = folder
        self.data_dir = folder / "cloud"
        self.cloud = CloudProcess(self.data_dir, "--name", HOST)
        self._parts = contextlib.ExitStack()
        self._parts.callback(self._end_cloud)
        try:
            self.cloud.wait_ready()
        except BaseException:
            self._parts.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._parts.close()

    def operator(self, *words):
        """``milepost-cloud`` with this cloud's data; what it printed."""
        done = milepost_cloud(*words, "--data", self.data_dir, timeout_s=COMMAND_S)
        if done.returncode != 0:
            said = done.stderr + done.stdout
            raise RigError(f"milepost-cloud {' '.join(map(str, words))}: {said}")
        return done.stdout

    def certificates(self):
        """Of the vehicle, the latest first: id and status; none while it is not in the fleet."""
        done = milepost_cloud("fleet", "describe", VEHICLE, "--json", "--data", self.data_dir)
        return json.loads(done.stdout)["certificates"] if done.returncode == 0 else []

    def stored(self):
        """What the cloud has stored of the vehicle, as ``milepost-cloud report`` tells it."""
        report = json.loads(self.operator("report", "--json"))
        found = [one for one in report["vehicles"] if one["vehicle_id"] == VEHICLE]
        return found[0] if found else {"samples_stored": 0, "runs": {}, "missing": {}}

    def _end_cloud(self):
        if self.cloud.process.poll() is None:
            self.cloud.stop()
