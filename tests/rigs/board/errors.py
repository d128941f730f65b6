"""What can go wrong with the rig itself, apart from what it finds."""


class RigError(Exception):
    """The rig cannot go on, e.g. the guest does not boot; says what to look at."""


class MissingProgramsError(RigError):
    """This machine cannot run the rig, e.g. no QEMU; the run is skipped by name."""


class RunEndedError(RigError):
    """A signal or the time bound ended the run: no scenario goes on after it."""
