"""One vehicle of the demo: its replay in this process, its agent as a child."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.can_player import CanPlayer
from simulator.demo import account
from simulator.demo.agent_config import AgentConfig, CanBus, config_text
from simulator.demo.bus import BusAddress
from simulator.demo.children import Child, python_command
from simulator.demo.errors import DemoError
from simulator.demo.plan import VehiclePlan
from simulator.demo.report import VehicleEnd
from simulator.gpsd_server import GpsdServer, Stamp

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """How every vehicle's logs are replayed."""

    speed: float
    loop: bool
    max_gap_s: float | None


class Vehicle:
    """One vehicle from its preparation to its account.

    Call order: ``prepare``, ``start_agent``, ``tick`` until done, ``ask_to_stop``, and
    when the agent has ended ``stop_replay`` and ``end``.
    """

    def __init__(
        self,
        plan: VehiclePlan,
        *,
        folder: Path,
        runtime_dir: Path,
        logs: Path,
        bus: BusAddress | None,
        options: ReplayOptions,
    ) -> None:
        self.vehicle_id = plan.vehicle_id
        self.folder = folder
        self.agent = Child(
            f"the agent of {plan.vehicle_id}",
            python_command("agent", "run", "--config", str(folder / "agent.toml")),
            logs / f"agent-{plan.vehicle_id}.log",
        )
        self._plan = plan
        self._runtime_dir = runtime_dir
        self._bus = bus
        self._options = options
        self._server = self._new_server()
        self._player = self._new_player()
        self._playing = False
        self._fixes_replayed = 0
        self._last_account: Json | None = None

    def prepare(self, broker_port: int) -> None:
        """Listen for the agent and write its config; its certificate is there already.

        Raises:
            ServerError: the gpsd server cannot listen.
        """
        gpsd_port = None
        if self._server is not None:
            self._server.start()
            gpsd_port = self._server.port
        self._runtime_dir.mkdir(parents=True)
        config = AgentConfig(
            vehicle_id=self.vehicle_id,
            state_dir=self.folder / "state",
            runtime_dir=self._runtime_dir,
            gpsd_port=gpsd_port,
            broker_port=broker_port,
            speed=self._options.speed,
            can=self._can_section(),
        )
        config.state_dir.mkdir(parents=True)
        (self.folder / "agent.toml").write_text(config_text(config), encoding="utf-8")

    def start_agent(self) -> None:
        """From the main thread only."""
        self.agent.start()

    def tick(self) -> None:
        """Begin the CAN replay with the GPS one; see that everything still runs.

        Raises:
            DemoError: the agent ended by itself.
            SimulatorError: the CAN bus or log failed.
        """
        self.agent.require_alive()
        if self._player is None:
            return
        if not self._playing and self._may_play():
            self._playing = True
            self._player.start()
        if self._player.error is not None:
            raise self._player.error

    @property
    def begun(self) -> bool:
        """Whether the agent is there and the replay has begun."""
        if self._server is not None and not self._server.begun.is_set():
            return False
        return self._player is None or self._playing

    @property
    def finished(self) -> bool:
        """Whether all logs have been replayed to their ends; never when they loop."""
        if not self.begun:
            return False
        ends = [part.finished for part in (self._server, self._player) if part is not None]
        return all(end.is_set() for end in ends)

    @property
    def progress(self) -> float:
        """How much of the drive is done, 0 to 1."""
        if self._server is not None:
            return self._server.progress
        return 0.0 if self._player is None else self._player.progress

    def account(self) -> Json | None:
        """What the agent says of itself now; its last word while it does not answer."""
        answer = account.ask(self._runtime_dir)
        if answer is not None:
            self._last_account = answer
        return self._last_account

    def ask_to_stop(self) -> None:
        """Ask the agent to take no more samples and to deliver what waits.

        What is replayed from here on is counted no more. GPS goes on until
        ``stop_replay``, for an agent that loses its receiver would report a fault.
        """
        self.account()
        if self._server is not None:
            self._fixes_replayed = self._server.fixes_replayed
        self.agent.ask_to_stop()
        if self._player is not None:
            self._player.stop()

    def stop_replay(self) -> None:
        """Stop GPS and CAN; idempotent."""
        for part in (self._player, self._server):
            if part is not None:
                part.stop()

    def end(self) -> VehicleEnd:
        """What came of it, once the agent has ended.

        Raises:
            DemoError: the agent ended badly or left no account.
        """
        if self.agent.exit_code != 0:
            self.agent.require_alive()
        last = account.last_run(self.folder / "state")
        if last is None:
            raise DemoError(
                f"{self.agent.name} left no account of its run; the end of its log:\n"
                f"{self.agent.tail()}",
                hint=f"the whole log is {self.agent.log_path}",
            )
        return VehicleEnd(
            self.vehicle_id,
            self._fixes_replayed,
            0 if self._player is None else self._player.frames_sent,
            last,
        )

    def _may_play(self) -> bool:
        if self._server is not None:
            return self._server.begun.is_set()
        # without GPS: as soon as the agent answers, its buses are open
        return self.account() is not None

    def _new_server(self) -> GpsdServer | None:
        if self._plan.trace is None:
            return None
        return GpsdServer(
            self._plan.trace,
            speed=self._options.speed,
            stamp=Stamp.PRESENT,
            loop=self._options.loop,
            max_gap_s=self._options.max_gap_s,
        )

    def _new_player(self) -> CanPlayer | None:
        if self._plan.can is None or self._bus is None:
            return None
        return CanPlayer(
            self._plan.can,
            interface=self._bus.interface,
            channel=self._bus.channel,
            options=self._bus.options,
            speed=self._options.speed,
            loop=self._options.loop,
            max_gap_s=self._options.max_gap_s,
        )

    def _can_section(self) -> CanBus | None:
        if self._player is None or self._bus is None:
            return None
        return CanBus(
            interface=self._bus.interface,
            channel=self._bus.channel,
            options=self._bus.options,
            fd=self._plan.can_fd,
            dbcs=self._plan.dbcs,
            signals=self._plan.signals,
        )
