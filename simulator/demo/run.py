"""The demo from its beginning to its end.

Order of the end: the network is mended, the agents are asked to stop (they take no more
samples and deliver what waits) and do, the replay stops, the cloud's consumers catch up,
the cloud stops, the report is made. Whatever goes wrong, no process outlives ``run``.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.clock import monotonic_s
from simulator.demo.agent_config import DRAIN_S
from simulator.demo.bus import BusAddress, new_bus
from simulator.demo.children import stop_all
from simulator.demo.cloud import HOST, Cloud, CloudOptions
from simulator.demo.errors import DemoError, Interrupted
from simulator.demo.latency import LatencyWatch
from simulator.demo.outages import Outage, outage_at
from simulator.demo.plan import Plan, VehiclePlan, write_fleet
from simulator.demo.report import (
    VehicleEnd,
    build_report,
    messages_missing,
    network_report,
    total_lost,
    write_json,
)
from simulator.demo.screen import Screen, StatusLine, span
from simulator.demo.stopping import stop_signals
from simulator.demo.summary import summary_lines
from simulator.demo.vehicle import ReplayOptions, Vehicle
from simulator.demo.workspace import Workspace
from simulator.network.conditions import CLEAR
from simulator.network.relay import Relay
from simulator.stopping import Stopping

Json = dict[str, Any]

TICK_S: Final = 0.1
STATUS_EVERY_S: Final = 0.5
READY_TIMEOUT_S: Final = 90.0
LAST_SAMPLE_S: Final = 1.2
"""After the last fix, so that it is sampled too."""

DRAIN_MARGIN_S: Final = 20.0
CATCH_UP_EVERY_S: Final = 0.5
CATCH_UP_STALLED_S: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What was asked for on the command line."""

    plan: Plan
    data: Path
    report: Path | None
    speed: float
    duration_s: float | None
    outages: tuple[Outage, ...]
    browser: bool
    tiles: bool
    loop: bool
    http_port: int
    max_gap_s: float | None


class Demo:
    """One run; ``run`` gives the exit code: 0, or 1 when a sample was lost."""

    def __init__(self, options: DemoOptions, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._workspace = Workspace(options.data)
        self._stopping = Stopping()
        self._line = StatusLine()
        self._status_s = 0.0
        self._outage: Outage | None = None

    def run(self) -> int:
        """Run to the end, to ``--for`` or to Ctrl-C.

        Raises:
            SimulatorError: a part of it could not begin, or ended by itself.
        """
        with ExitStack() as stack:
            stack.enter_context(stop_signals(self._stopping))
            stack.callback(self._workspace.close)
            self._workspace.open()
            try:
                return self._run(stack)
            except Interrupted:
                self._screen.say("stopped before the drive began")
                return 0

    def _run(self, stack: ExitStack) -> int:
        cloud = self._start_cloud(stack)
        relay = Relay(HOST, cloud.mqtt_port)
        relay.start()
        stack.callback(relay.stop)
        vehicles = self._start_vehicles(stack, cloud, relay)
        latency = LatencyWatch(cloud)
        stack.callback(latency.stop)
        self._await_beginning(cloud, vehicles)
        latency.start()
        self._drive(cloud, relay, vehicles, latency)
        latency.stop()
        self._apply(relay, None, 0.0)
        ends = self._drain(cloud, vehicles, latency)
        report = self._settle(cloud, ends)
        report["network"] = network_report(relay.counts)
        return self._conclude(report)

    def _start_cloud(self, stack: ExitStack) -> Cloud:
        options, space = self._options, self._workspace
        fleet = options.plan.fleet
        if fleet is None:
            fleet = space.fleet
            write_fleet(fleet, options.plan.vehicles)
        cloud = Cloud(
            space.cloud,
            space.logs,
            CloudOptions(
                http_port=options.http_port,
                fleet=fleet,
                areas=options.plan.areas,
                tiles=options.tiles,
            ),
        )
        stack.callback(cloud.stop)
        self._screen.status("starting the cloud")
        cloud.start()
        self._wait(cloud.poll_ready, "the cloud to be ready", f"its log is {cloud.child.log_path}")
        self._screen.say(f"map       {cloud.http_url}")
        if options.browser:
            webbrowser.open(cloud.http_url)
        return cloud

    def _start_vehicles(self, stack: ExitStack, cloud: Cloud, relay: Relay) -> list[Vehicle]:
        options, space = self._options, self._workspace
        replay = ReplayOptions(speed=options.speed, loop=options.loop, max_gap_s=options.max_gap_s)
        vehicles = []
        for number, plan in enumerate(options.plan.vehicles):
            bus = self._bus_for(plan)
            vehicle = Vehicle(
                plan,
                folder=space.vehicle(plan.vehicle_id),
                runtime_dir=space.runtime / str(number),
                logs=space.logs,
                bus=bus,
                options=replay,
            )
            vehicle.folder.mkdir(parents=True)
            vehicles.append(vehicle)
        self._screen.status("issuing the vehicles' certificates")
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="demo-certs") as pool:
            issued = [
                pool.submit(cloud.issue_certificate, vehicle.vehicle_id, vehicle.folder)
                for vehicle in vehicles
            ]
            for one in issued:
                one.result()
        self._screen.status("starting the agents")
        stack.callback(stop_all, [vehicle.agent for vehicle in vehicles])
        for vehicle in vehicles:
            stack.callback(vehicle.stop_replay)
            vehicle.prepare(relay.port)
            vehicle.start_agent()
        return vehicles

    def _bus_for(self, plan: VehiclePlan) -> BusAddress | None:
        if plan.can is None:
            return None
        try:
            return new_bus()
        except DemoError as error:
            if not self._options.plan.can_is_optional:
                raise
            self._screen.say(f"no CAN    {error}; {error.hint}")
            return None

    def _await_beginning(self, cloud: Cloud, vehicles: list[Vehicle]) -> None:
        def begun() -> bool:
            cloud.child.require_alive()
            for vehicle in vehicles:
                vehicle.tick()
            return all(vehicle.begun for vehicle in vehicles)

        logs = self._workspace.logs
        self._wait(begun, "every agent to listen to its vehicle", f"their logs are in {logs}")
        names = ", ".join(vehicle.vehicle_id for vehicle in vehicles)
        faster = "" if self._options.speed == 1 else f" at {self._options.speed:g} times the speed"
        self._screen.say(f"driving   {names}{faster}")
        self._screen.say(f"data      {self._workspace.path}")
        if self._options.duration_s is None:
            self._screen.say("Ctrl-C stops it in order")

    def _drive(
        self, cloud: Cloud, relay: Relay, vehicles: list[Vehicle], latency: LatencyWatch
    ) -> None:
        begun_s = monotonic_s()
        finished_s: float | None = None
        while not self._stopping.wait(TICK_S):
            now_s = monotonic_s()
            elapsed_s = now_s - begun_s
            outage = outage_at(self._options.outages, elapsed_s)
            self._apply(relay, outage, elapsed_s)
            cloud.child.require_alive()
            for vehicle in vehicles:
                vehicle.tick()
            where = f"{span(elapsed_s)} {100 * _mean_progress(vehicles):.0f} %"
            cut = (
                "" if outage is None else f"{outage.fault.name} {span(outage.end_s - elapsed_s)} · "
            )
            self._show(vehicles, latency, where, before=cut)
            if self._options.duration_s is not None and elapsed_s >= self._options.duration_s:
                return
            if finished_s is None and all(vehicle.finished for vehicle in vehicles):
                finished_s = now_s
            if finished_s is not None and now_s - finished_s >= LAST_SAMPLE_S:
                return

    def _apply(self, relay: Relay, outage: Outage | None, elapsed_s: float) -> None:
        condition = CLEAR if outage is None else outage.condition_at(elapsed_s)
        if condition != relay.condition:
            relay.become(condition)
        if outage is self._outage:
            return
        self._outage = outage
        if outage is None:
            self._screen.say("the network is back")
        else:
            self._screen.say(
                f"the network to the broker is bad for {outage.length_s:g} s ({outage.fault.name})"
            )

    def _drain(
        self, cloud: Cloud, vehicles: list[Vehicle], latency: LatencyWatch
    ) -> list[VehicleEnd]:
        for vehicle in vehicles:
            vehicle.ask_to_stop()
        deadline_s = monotonic_s() + DRAIN_S + DRAIN_MARGIN_S
        while any(vehicle.agent.exit_code is None for vehicle in vehicles):
            cloud.child.require_alive()
            if monotonic_s() > deadline_s:
                late = next(one for one in vehicles if one.agent.exit_code is None)
                raise DemoError(
                    f"{late.agent.name} did not stop; the end of its log:\n{late.agent.tail()}",
                    hint=f"the whole log is {late.agent.log_path}",
                )
            self._show(vehicles, latency, before="delivering the rest · ")
            next(one for one in vehicles if one.agent.exit_code is None).agent.wait(TICK_S)
        for vehicle in vehicles:
            vehicle.stop_replay()
        return [vehicle.end() for vehicle in vehicles]

    def _settle(self, cloud: Cloud, ends: list[VehicleEnd]) -> Json:
        """Wait until what was acknowledged is stored, or nothing moves any more."""
        self._screen.status("the cloud stores what it took in")
        missing = messages_missing(ends, cloud.report())
        moved_s = monotonic_s()
        while missing and monotonic_s() - moved_s < CATCH_UP_STALLED_S:
            cloud.child.wait(CATCH_UP_EVERY_S)
            cloud.child.require_alive()
            now_missing = messages_missing(ends, cloud.report())
            if now_missing != missing:
                missing, moved_s = now_missing, monotonic_s()
        self._screen.status("stopping the cloud")
        cloud.stop()
        return build_report(ends, cloud.report())

    def _conclude(self, report: Json) -> int:
        write_json(self._workspace.report, report)
        if self._options.report is not None:
            write_json(self._options.report, report)
        path = self._options.report or self._workspace.report
        self._screen.end_line()
        for line in summary_lines(report, path, self._workspace.path):
            self._screen.say(line)
        return 1 if total_lost(report) else 0

    def _show(
        self,
        vehicles: list[Vehicle],
        latency: LatencyWatch,
        where: str = "",
        *,
        before: str = "",
    ) -> None:
        now_s = monotonic_s()
        if now_s - self._status_s < STATUS_EVERY_S:
            return
        self._status_s = now_s
        accounts = [said for said in (vehicle.account() for vehicle in vehicles) if said]
        self._screen.status(before + self._line.text(accounts, latency.latest, where=where))

    def _wait(self, condition: Callable[[], bool], what: str, hint: str) -> None:
        deadline_s = monotonic_s() + READY_TIMEOUT_S
        while not condition():
            if self._stopping.wait(TICK_S):
                raise Interrupted
            if monotonic_s() > deadline_s:
                raise DemoError(f"waited {READY_TIMEOUT_S:.0f} s for {what}", hint=hint)


def _mean_progress(vehicles: list[Vehicle]) -> float:
    return sum(vehicle.progress for vehicle in vehicles) / len(vehicles)
