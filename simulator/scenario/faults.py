"""The table of faults: what each does to the vehicle while it lasts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from simulator.gps_faults import CLEAR_SKY, Sky
from simulator.network.conditions import CLEAR, Condition
from simulator.network.faults import parse_fault
from simulator.scenario.model import Fault, FaultName


@dataclass(frozen=True, slots=True)
class Situation:
    """How the vehicle is at one moment; the default is that all is well."""

    sky: Sky = CLEAR_SKY
    all_buses_off: bool = False
    buses_off: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()
    """``Message.Signal`` of sensors that say the same whatever happens."""
    clock_wrong: bool = False
    network: Condition = CLEAR
    powered: bool = True

    def is_off(self, channel: str) -> bool:
        """Whether that bus is."""
        return self.all_buses_off or channel in self.buses_off


ALL_IS_WELL: Final = Situation()


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table. ``befall`` takes the seconds since the fault began."""

    does: str
    befall: Callable[[Situation, Fault, float], Situation]


def _sky(sky: Sky) -> Callable[[Situation, Fault, float], Situation]:
    return lambda now, _fault, _since_s: replace(now, sky=now.sky.and_also(sky))


def _jump(now: Situation, fault: Fault, _since_s: float) -> Situation:
    return replace(now, sky=now.sky.and_also(Sky(jump_m=fault.jump_m)))


def _bus_off(now: Situation, fault: Fault, _since_s: float) -> Situation:
    if fault.bus is None:
        return replace(now, all_buses_off=True)
    return replace(now, buses_off=now.buses_off | {fault.bus})


def _stuck(now: Situation, fault: Fault, _since_s: float) -> Situation:
    return replace(now, stuck=now.stuck | set(fault.signals))


def _network(now: Situation, fault: Fault, since_s: float) -> Situation:
    condition = parse_fault(fault.network).condition_at(since_s)
    return replace(now, network=now.network.and_also(condition))


FAULTS: Final[dict[FaultName, Kind]] = {
    FaultName.GPS_LOSS: Kind(
        "the receiver reports that it has no fix, as in a tunnel", _sky(Sky(lost=True))
    ),
    FaultName.GPS_JUMP: Kind(
        "fixes lie `jump_m` to the north-east of the truth, as reflections put them", _jump
    ),
    FaultName.STALE_FIX: Kind(
        "gpsd repeats its last report, its time included", _sky(Sky(frozen=True))
    ),
    FaultName.BUS_OFF: Kind(
        "the CAN controller leaves the bus (an error frame says so) and returns at the end",
        _bus_off,
    ),
    FaultName.SENSOR_STUCK: Kind("`signals` keep the value that they had", _stuck),
    FaultName.CLOCK_1970: Kind(
        "the agent's wall clock begins in 1970 and is set right at the end (needs faketime)",
        lambda now, _fault, _since_s: replace(now, clock_wrong=True),
    ),
    FaultName.NETWORK_CUT: Kind(
        "the network to the broker is bad, in the way that `network` says", _network
    ),
    FaultName.BROWN_OUT: Kind(
        "the agent is killed (SIGKILL) and started again at the end; GPS and buses go on",
        lambda now, _fault, _since_s: replace(now, powered=False),
    ),
}


def situation_at(faults: Iterable[Fault], elapsed_s: float) -> Situation:
    """All faults that hold so long after the drive's first moment, together."""
    now = ALL_IS_WELL
    for fault in faults:
        if fault.at_s <= elapsed_s < fault.end_s:
            now = FAULTS[fault.name].befall(now, fault, elapsed_s - fault.at_s)
    return now


def names_at(faults: Iterable[Fault], elapsed_s: float) -> list[str]:
    """The faults that hold, by name, for the person at the desk."""
    return [fault.name.value for fault in faults if fault.at_s <= elapsed_s < fault.end_s]
