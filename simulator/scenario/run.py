"""Several scenarios side by side: a vehicle each, one cloud for all of them.

Order: the cloud, the vehicles' certificates and configs, the agents; each vehicle drives,
delivers what waits and ends by itself; the cloud stores what it took in; what it has is
compared with what was expected. Whatever goes wrong, no process outlives ``run``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.clock import monotonic_s
from simulator.demo.children import stop_all
from simulator.demo.cloud import Cloud, CloudOptions
from simulator.demo.errors import DemoError, Interrupted
from simulator.demo.plan import unique_ids
from simulator.demo.report import write_json
from simulator.demo.screen import Screen
from simulator.demo.stopping import stop_signals
from simulator.demo.workspace import Workspace
from simulator.errors import SimulatorError
from simulator.scenario.drive import prepare
from simulator.scenario.evidence import Evidence, messages_of
from simulator.scenario.expectations import check
from simulator.scenario.model import Scenario
from simulator.scenario.report import Outcome, outcome_lines, report_json, summary_line
from simulator.scenario.vehicle import Place, ScenarioVehicle, Stage
from simulator.scenario.wrong_clock import forget_ended
from simulator.stopping import Stopping

Json = dict[str, Any]

TICK_S: Final = 0.05
READY_TIMEOUT_S: Final = 90.0
SETTLE_EVERY_S: Final = 0.5
SETTLE_STALLED_S: Final = 20.0
TOLD_AT_ONCE: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What was asked for on the command line."""

    scenarios: Sequence[tuple[str, Scenario]]
    """By name, which becomes the vehicle's."""
    data: Path
    report: Path | None
    seed: int | None
    """In place of each synthetic drive's own."""


class ScenarioRun:
    """One run; ``run`` gives the exit code: 0, or 1 when a scenario failed."""

    def __init__(self, options: RunOptions, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._workspace = Workspace(options.data)
        self._stopping = Stopping()

    def run(self) -> int:
        """Run to the end, or to Ctrl-C.

        Raises:
            SimulatorError: what all scenarios need could not begin, or ended by itself.
        """
        with ExitStack() as stack:
            stack.enter_context(stop_signals(self._stopping))
            stack.callback(forget_ended)
            stack.callback(self._workspace.close)
            self._workspace.open()
            try:
                outcomes = self._run(stack)
            except Interrupted:
                self._screen.end_line()
                self._screen.say("stopped before the end: there is no report")
                return 1
        return self._conclude(outcomes)

    def _run(self, stack: ExitStack) -> list[Outcome]:
        self._screen.status("making the drives")
        vehicles = self._vehicles(stack)
        cloud = self._start_cloud(stack)
        self._screen.status("certificates and configs")
        self._prepare(vehicles, cloud)
        for vehicle in vehicles:
            if not vehicle.is_over:
                vehicle.start()
        self._drive(vehicles, cloud)
        self._settle(vehicles, cloud)
        self._screen.status("looking at what came of it")
        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="outcome") as pool:
            return list(pool.map(lambda vehicle: self._outcome(vehicle, cloud), vehicles))

    def _vehicles(self, stack: ExitStack) -> list[ScenarioVehicle]:
        space = self._workspace
        names = unique_ids([name for name, _ in self._options.scenarios])
        vehicles = []
        for number, (name, (_, scenario)) in enumerate(
            zip(names, self._options.scenarios, strict=True)
        ):
            folder = space.vehicle(name)
            folder.mkdir(parents=True)
            drive = prepare(scenario, folder, seed=self._options.seed)
            place = Place(folder, space.runtime / str(number), space.logs)
            vehicle = ScenarioVehicle(name, scenario, drive, place)
            stack.callback(vehicle.close)
            vehicles.append(vehicle)
        stack.callback(stop_all, [vehicle.agent for vehicle in vehicles])
        return vehicles

    def _start_cloud(self, stack: ExitStack) -> Cloud:
        space = self._workspace
        cloud = Cloud(
            space.cloud,
            space.logs,
            CloudOptions(http_port=0, fleet=None, areas=None, tiles=False),
        )
        stack.callback(cloud.stop)
        self._screen.status("starting the cloud")
        cloud.start()
        self._wait(cloud.poll_ready, "the cloud to be ready", f"its log is {cloud.child.log_path}")
        return cloud

    def _prepare(self, vehicles: Sequence[ScenarioVehicle], cloud: Cloud) -> None:
        def one(vehicle: ScenarioVehicle) -> None:
            try:
                vehicle.prepare(cloud)
            except SimulatorError as error:
                vehicle.fail(error)

        with ThreadPoolExecutor(max_workers=2, thread_name_prefix="prepare") as pool:
            list(pool.map(one, vehicles))

    def _drive(self, vehicles: Sequence[ScenarioVehicle], cloud: Cloud) -> None:
        deadline_s = monotonic_s() + READY_TIMEOUT_S
        while not all(vehicle.is_over for vehicle in vehicles):
            if self._stopping.wait(TICK_S):
                raise Interrupted
            cloud.child.require_alive()
            for vehicle in vehicles:
                vehicle.tick()
                if vehicle.stage is Stage.STARTING and monotonic_s() > deadline_s:
                    vehicle.fail(
                        DemoError(
                            f"{vehicle.agent.name} did not listen to its vehicle within "
                            f"{READY_TIMEOUT_S:.0f} s; the end of its log:\n{vehicle.agent.tail()}",
                            hint=f"the whole log is {vehicle.agent.log_path}",
                        )
                    )
            self._tell(vehicles)

    def _settle(self, vehicles: Sequence[ScenarioVehicle], cloud: Cloud) -> None:
        """Wait until what was acknowledged is stored, or nothing moves any more."""
        self._screen.status("the cloud stores what it took in")
        missing = self._missing(vehicles, cloud)
        moved_s = monotonic_s()
        while missing and monotonic_s() - moved_s < SETTLE_STALLED_S:
            if self._stopping.wait(SETTLE_EVERY_S):
                raise Interrupted
            now_missing = self._missing(vehicles, cloud)
            if now_missing != missing:
                missing, moved_s = now_missing, monotonic_s()

    def _missing(self, vehicles: Sequence[ScenarioVehicle], cloud: Cloud) -> int:
        """Messages that the agents' last runs had acknowledged and the history does not show."""
        stored = {one["vehicle_id"]: one["runs"] for one in cloud.report()["vehicles"]}
        missing = 0
        for vehicle in vehicles:
            last = vehicle.last_run()
            if last is None or vehicle.stage is not Stage.ENDED:
                continue
            run = stored.get(vehicle.name, {}).get(last["run_id"], {})
            acknowledged = last["samples_acknowledged"] + last["events_acknowledged"]
            missing += max(0, acknowledged - run.get("stored", 0))
        return missing

    def _outcome(self, vehicle: ScenarioVehicle, cloud: Cloud) -> Outcome:
        failure = ""
        checks = []
        samples = events = 0
        try:
            if vehicle.failure is not None:
                raise vehicle.failure
            evidence = self._evidence(vehicle, cloud)
            checks = check(vehicle.scenario.expect, evidence, starts=vehicle.scenario.starts)
            samples, events = len(evidence.samples), len(evidence.events)
        except SimulatorError as error:
            failure = f"{error}\n{error.hint}"
        return Outcome(
            name=vehicle.name,
            title=vehicle.scenario.title,
            checks=checks,
            samples=samples,
            events=events,
            duration_s=(vehicle.ended - vehicle.begun).total_seconds(),
            failure=failure,
        )

    def _evidence(self, vehicle: ScenarioVehicle, cloud: Cloud) -> Evidence:
        figures = cloud.gaps(vehicle.name)
        return Evidence(
            started=vehicle.started,
            begun=vehicle.begun,
            ended=vehicle.ended,
            messages=messages_of(cloud.history(vehicle.name)),
            missing=figures["missing"],
            unexplained=figures["unexplained"],
            causes=figures["causes"],
            truth=vehicle.drive.truth,
        )

    def _conclude(self, outcomes: Sequence[Outcome]) -> int:
        report = report_json(outcomes)
        write_json(self._workspace.report, report)
        if self._options.report is not None:
            write_json(self._options.report, report)
        self._screen.end_line()
        for outcome in outcomes:
            for line in outcome_lines(outcome):
                self._screen.say(line)
        self._screen.say("")
        self._screen.say(f"report    {self._options.report or self._workspace.report}")
        self._screen.say(f"logs      {self._workspace.logs}")
        self._screen.say(summary_line(outcomes))
        return 0 if report["passed"] else 1

    def _tell(self, vehicles: Sequence[ScenarioVehicle]) -> None:
        going_on = [vehicle for vehicle in vehicles if not vehicle.is_over]
        told = [vehicle.told() for vehicle in going_on[:TOLD_AT_ONCE]]
        if len(going_on) > TOLD_AT_ONCE:
            told.append(f"and {len(going_on) - TOLD_AT_ONCE} more")
        if told:
            self._screen.status(" · ".join(told))

    def _wait(self, condition: Callable[[], bool], what: str, hint: str) -> None:
        deadline_s = monotonic_s() + READY_TIMEOUT_S
        while not condition():
            if self._stopping.wait(TICK_S):
                raise Interrupted
            if monotonic_s() > deadline_s:
                raise DemoError(f"waited {READY_TIMEOUT_S:.0f} s for {what}", hint=hint)
