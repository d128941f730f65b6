"""Promises that a scenario tries one after the other, each a function with a docstring."""

import functools
from dataclasses import dataclass

from tests.rigs.board.errors import RigError, RunEndedError


@dataclass(frozen=True)
class Check:
    """One promise, and what was seen of it."""

    promise: str
    told: str
    held: bool


def checked(function, subject, say):
    """Try ``function(subject)``, which tells what it saw, or raises what is not as promised."""
    check = functools.partial(Check, _promise(function))
    try:
        made = check(function(subject), held=True)
    except RunEndedError:
        raise
    except (AssertionError, RigError) as error:
        made = check(str(error) or repr(error), held=False)
    except Exception as error:  # noqa: BLE001  the others are tried all the same
        made = check(repr(error), held=False)
    say(f"{'held' if made.held else 'BROKEN'}: {made.promise}: {made.told}")
    return made


def no_time_for(function, deadline_s):
    """A promise that was not tried is not kept."""
    return Check(_promise(function), f"did not fit into {deadline_s:.0f} s", held=False)


def memory_mb_of(run, unit):
    """PSS, RSS and USS of a unit's main process; ``run`` is the guest's."""
    pid = run("systemctl", "show", unit, "--property=MainPID", "--value").strip()
    lines = run("cat", f"/proc/{pid}/smaps_rollup").splitlines()[1:]
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    kib["Uss"] = kib["Private_Clean"] + kib["Private_Dirty"]
    return {name: round(kib[name] * 1024 / 1e6, 1) for name in ("Pss", "Rss", "Uss")}


def _promise(function):
    return function.__doc__.rstrip(".")
