"""``milepost-agent provision`` in a process that dies by SIGKILL at one of its steps.

``python -m tests.fakes.killed_provisioning POINT -- ARGUMENTS``. A point is a name of
``POINTS``, or a number n: before the n-th change of the file system in the identity's folder.
Nothing in the agent knows of this.
"""

import os
import signal
import sys

from agent.cli import main
from agent.identity.store import IdentityStore
from agent.provision.sdk import SdkService
from tests.fakes.power_cut import PowerCut

POINTS = (
    "key made",
    "key kept",
    "certificate answered",
    "certificate kept",
    "registration answered",
    "registration kept",
    "generation written",
    "committed",
)


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner, name):
    setattr(owner, name, die)


def _after(owner, name):
    method = getattr(owner, name)

    def with_end(*args, **options):
        method(*args, **options)
        die()

    setattr(owner, name, with_end)


def arrange(point):
    """Have this process end there."""
    match point:
        case "key made":
            _before(IdentityStore, "begin")
        case "key kept":
            _after(IdentityStore, "begin")
        case "certificate answered":
            _after(SdkService, "create_from_csr")
        case "certificate kept":
            _after(IdentityStore, "keep_certificate")
        case "registration answered":
            _after(SdkService, "register")
        case "registration kept":
            _after(IdentityStore, "keep_registration")
        case "generation written":
            _before(IdentityStore, "_point_to")
        case "committed":
            _after(IdentityStore, "_point_to")
        case number:
            _at_change(int(number))


def _at_change(number):
    folder = os.environ["IDENTITY_FOLDER"]
    cut = PowerCut(folder, number)

    def hook(event, args):
        if event == "open" or event.startswith("os."):
            try:
                cut.before(event, args)
            except BaseException:
                die()
                raise

    sys.addaudithook(hook)


if __name__ == "__main__":
    arrange(sys.argv[1])
    sys.argv = ["milepost-agent", *sys.argv[3:]]
    main()
