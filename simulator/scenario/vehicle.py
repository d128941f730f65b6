"""The vehicle of one scenario: its replay in this process, its agent as a child.

Its network is a relay of its own, its buses are its own, so that scenarios run beside each
other. ``tick`` makes the world as the time line says; nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from simulator.can_faults import BusFaults
from simulator.can_player import CanPlayer
from simulator.clock import utc_now
from simulator.demo import account
from simulator.demo.bus import BusAddress, new_bus
from simulator.demo.children import Child, python_command, run_to_end
from simulator.demo.cloud import HOST, Cloud
from simulator.demo.errors import DemoError
from simulator.ecu.node import EcuNode
from simulator.ecu.truck import TruckNode
from simulator.errors import FileError, SimulatorError
from simulator.network.relay import Relay
from simulator.scenario.agent_config import DRAIN_S, Surroundings, adapt
from simulator.scenario.drive import Replayed
from simulator.scenario.ecus import ecus
from simulator.scenario.faults import Situation, names_at, situation_at
from simulator.scenario.model import FaultName, Scenario
from simulator.scenario.receiver import gps_section, receiver_of
from simulator.scenario.wrong_clock import WrongClock

Json = dict[str, Any]

CONFIG: Final = "agent.toml"
DRAIN_MARGIN_S: Final = 20.0


class Stage(Enum):
    """Where a vehicle is in its scenario."""

    STARTING = "starting"
    DRIVING = "driving"
    DELIVERING = "delivering the rest"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one vehicle's things are."""

    folder: Path
    runtime_dir: Path
    logs: Path


class ScenarioVehicle:
    """Call order: ``prepare`` (any thread), ``start``, ``tick`` until ``is_over``, ``close``.

    A failure of this vehicle alone is kept in ``failure``; the others go on.
    """

    def __init__(self, name: str, scenario: Scenario, drive: Replayed, place: Place) -> None:
        self.name = name
        self.scenario = scenario
        self.drive = drive
        self.stage = Stage.STARTING
        self.failure: SimulatorError | None = None
        self.started = self.begun = self.ended = utc_now()
        self.duration_s = scenario.duration_s or drive.duration_s
        self._place = place
        self._now = Situation()
        self._relay: Relay | None = None
        self._clock: WrongClock | None = None
        if any(fault.name is FaultName.CLOCK_1970 for fault in scenario.fault):
            self._clock = WrongClock(place.folder)
        self._receiver = receiver_of(scenario.vehicle.receiver, drive, place.folder)
        self._addresses: dict[str, BusAddress] = {}
        self._players: dict[str, CanPlayer] = {}
        self._ecus: list[EcuNode | TruckNode] = []
        self._make_buses()
        self.agent = Child(
            f"the agent of {name}",
            python_command("agent", "run", "--config", str(place.folder / CONFIG)),
            place.logs / f"agent-{name}.log",
            environment={} if self._clock is None else self._clock.environment(),
        )

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.stage in (Stage.ENDED, Stage.FAILED)

    @property
    def elapsed_s(self) -> float:
        """Since the drive's first moment; 0 before it."""
        if self.stage is Stage.STARTING:
            return 0.0
        return (utc_now() - self.begun).total_seconds()

    def prepare(self, cloud: Cloud) -> None:
        """Certificate, network, receiver and the agent's config.

        Raises:
            SimulatorError: a command failed, or the config that it wrote is of another vehicle.
        """
        folder = self._place.folder
        cloud.issue_certificate(self.name, folder)
        words = ("init", "--preset", self.scenario.vehicle.preset, "--vehicle", self.name)
        run_to_end(
            f"milepost-agent init for {self.name}",
            python_command("agent", *words, "--broker", HOST, "--out", str(folder)),
            self._place.logs / "init.log",
        )
        self._relay = Relay(HOST, cloud.mqtt_port)
        self._relay.start()
        if self._receiver is not None:
            self._receiver.start()
        self._place.runtime_dir.mkdir(parents=True)
        adapt(
            folder / CONFIG,
            Surroundings(
                state_dir=folder / "state",
                runtime_dir=self._place.runtime_dir,
                gps=gps_section(self._receiver),
                broker_port=self._relay.port,
                buses=self._addresses,
                has_clock=self._clock is None,
            ),
            self.scenario.agent,
        )

    def start(self) -> None:
        """Power on. From the main thread only."""
        self.started = utc_now()
        if self._clock is not None:
            self._clock.set_wrong()
        self.agent.start()

    def tick(self) -> None:
        """Make the world as it must be now. From the main thread only."""
        try:
            match self.stage:
                case Stage.STARTING:
                    self._await_beginning()
                case Stage.DRIVING:
                    self._drive()
                case Stage.DELIVERING:
                    self._deliver()
                case Stage.ENDED | Stage.FAILED:
                    pass
        except SimulatorError as error:
            self.fail(error)

    def fail(self, error: SimulatorError) -> None:
        """This scenario cannot go on; the others can."""
        self.failure = error
        self.stage = Stage.FAILED
        self.ended = utc_now()
        self.agent.ask_to_stop()

    def told(self) -> str:
        """A few words on how far it is."""
        if self.stage is not Stage.DRIVING:
            return f"{self.name} {self.stage.value}"
        names = ", ".join(names_at(self.scenario.fault, self.elapsed_s))
        left_s = max(0.0, self.duration_s - self.elapsed_s)
        return f"{self.name} {left_s:.0f} s" + (f" ({names})" if names else "")

    def last_run(self) -> Json | None:
        """The account that the agent left at its orderly end."""
        return account.last_run(self._place.folder / "state")

    def close(self) -> None:
        """Stop what this process has of it; idempotent. The agent is the caller's."""
        for part in (*self._players.values(), *self._ecus, self._receiver, self._relay):
            if part is not None:
                part.stop()

    def _await_beginning(self) -> None:
        self.agent.require_alive()
        began_at: datetime | None = utc_now()
        if self._receiver is not None:
            began_at = self._receiver.began_at
        elif account.ask(self._place.runtime_dir) is None:
            return  # without GPS: as soon as the agent answers, its buses are open
        if began_at is None:
            return
        self.begun = began_at
        for part in (*self._players.values(), *self._ecus):
            part.start()
        self.stage = Stage.DRIVING
        self._become(situation_at(self.scenario.fault, 0.0))

    def _drive(self) -> None:
        elapsed_s = self.elapsed_s
        over = elapsed_s >= self.duration_s
        self._become(Situation() if over else situation_at(self.scenario.fault, elapsed_s))
        if self._now.powered:
            self.agent.require_alive()
        for part in (*self._players.values(), *self._ecus):
            if part.error is not None:
                raise part.error
        if over:
            self.ended = utc_now()
            self.agent.ask_to_stop()
            self.stage = Stage.DELIVERING

    def _deliver(self) -> None:
        if self.agent.exit_code is None:
            late_s = (utc_now() - self.ended).total_seconds() - DRAIN_S - DRAIN_MARGIN_S
            if late_s > 0:
                raise DemoError(
                    f"{self.agent.name} did not stop; the end of its log:\n{self.agent.tail()}",
                    hint=f"the whole log is {self.agent.log_path}",
                )
            return
        if self.agent.exit_code != 0:
            self.agent.require_alive()
        self.stage = Stage.ENDED

    def _become(self, now: Situation) -> None:
        before, self._now = self._now, now
        if self._receiver is not None:
            self._receiver.become(now.sky)
        if self._relay is not None and self._relay.condition != now.network:
            self._relay.become(now.network)
        for channel, player in self._players.items():
            player.faults.off = now.is_off(channel)
            if now.stuck != before.stuck:
                player.faults.stick(one for one in now.stuck if player.faults.has(one))
        if self._clock is not None and before.clock_wrong and not now.clock_wrong:
            self._clock.set_right()
        if before.powered and not now.powered:
            self.agent.kill()
        elif now.powered and not before.powered:
            self.agent.start()

    def _make_buses(self) -> None:
        self._addresses = {channel: new_bus() for channel in self.drive.profile.channels}
        self._ecus = ecus(self.drive, self._addresses)
        if self.drive.can is not None:
            self._make_players(self.drive.can)
        self._check_faults()

    def _make_players(self, log: Path) -> None:
        for channel in dict.fromkeys(bus.channel for bus in self.drive.profile.bus):
            address = self._addresses[channel]
            player = CanPlayer(
                log,
                interface=address.interface,
                channel=address.channel,
                options=address.options,
                log_channel=channel,
            )
            player.faults = BusFaults(self.drive.messages_of(channel))
            self._players[channel] = player

    def _check_faults(self) -> None:
        for fault in self.scenario.fault:
            missing = not self._players if fault.bus is None else fault.bus not in self._players
            if fault.name is FaultName.BUS_OFF and missing:
                raise FileError(
                    f"{self.name}: bus-off: the vehicle has no bus {fault.bus or 'at all'}",
                    hint=f"it has {', '.join(self._players) or 'none that replays a log'}",
                )
            for signal in fault.signals:
                if not any(player.faults.has(signal) for player in self._players.values()):
                    raise FileError(
                        f"{self.name}: fault signals: no bus of the vehicle has {signal!r}",
                        hint="write Message.Signal as in the DBC",
                    )
