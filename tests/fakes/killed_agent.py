"""``milepost-agent``, killed right before the n-th step of a rotation.

``python -m tests.fakes.killed_agent N FILE run --config …``; in place of a number, the step
whose name it is. A step is a change in the
identity's folder, a message of the dialogue with the cloud, or one of the publisher's on its
way to the other certificate. Each is appended to FILE before it happens, counted from 1;
0 is never. What is killed is the process, so the file system keeps what was written; that
each write is synced before the next is what the store's own tests are about.
"""

import os
import signal
import sys
from pathlib import Path

from agent.cli import main
from agent.identity.dialogue import Dialogue
from agent.identity.rotation import Rotation
from agent.publisher.changeover import Changeover
from agent.publisher.exchange import ControlChannel
from agent.publisher.lanes import Lanes
from agent.publisher.link import Link
from agent.transport.sessions import SessionTransport

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

FATAL, STEPS = sys.argv[1], Path(sys.argv[2])


class Count:
    """Steps since the rotation began."""

    began = False
    steps = 0


def step(what):
    if not Count.began:
        return
    Count.steps += 1
    number = Count.steps
    with STEPS.open("a", encoding="utf-8") as file:
        file.write(f"{number} {what}\n")
    if FATAL in {str(number), what}:
        os.kill(os.getpid(), signal.SIGKILL)


def on_change(event, args):
    if not Count.began or (event != "open" and event not in _CHANGES):
        return
    if event == "open":
        path, _, flags = args
        if not isinstance(path, (str, os.PathLike)) or not (
            isinstance(flags, int) and flags & _WRITES
        ):
            return
    else:
        path = args[1] if event == "os.symlink" else args[0]
    path = os.fsdecode(path)
    if "identity" in Path(path).parts or not os.path.isabs(path):  # noqa: PTH117  by rmtree's fd
        step(f"{event} {Path(path).name}")


def before(owner, name, what):
    """A step before each call of a method, and one after it."""
    inner = getattr(owner, name)

    def method(self, *args, **kwargs):
        told = what(*args, **kwargs) if callable(what) else what
        step(told)
        result = inner(self, *args, **kwargs)
        step(f"after: {told}")
        return result

    setattr(owner, name, method)


def begin(self, reason):
    Count.began = True
    rotate(self, reason)


rotate = Rotation._rotate
Rotation._rotate = begin
before(Dialogue, "received", lambda topic, _payload: f"answered on {topic}")
before(ControlChannel, "send", lambda topic, _payload: f"asks on {topic}")
before(Changeover, "begin", "changes over")
before(Changeover, "connected", "is connected")
before(Changeover, "keep", "keeps the new one")
before(Link, "leave", "leaves the old connection")
before(SessionTransport, "connect", "dials")
before(Lanes, "_send_status", "sends the status")
sys.addaudithook(on_change)
sys.argv = ["milepost-agent", *sys.argv[3:]]
main()
