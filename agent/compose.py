"""The composition: builds adapters and plugs them together, with ``compose_sources``, ``_jobs``.

Order of life: directories, delivery, engine, sources; and the other way round to stop:
sources, engine, then delivery, which drains, commits and says farewell.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from agent import memory, state_dir
from agent.check import check
from agent.compose_jobs import make_jobs
from agent.compose_sources import SourceSet
from agent.config import AgentSettings, JobsMode, ShadowMode
from agent.control_server import ControlServer
from agent.delivery import OUTBOX_FILE, Delivery
from agent.engine.engine import Engine, EngineIdentity
from agent.engine.odometer import GpsOdometer
from agent.engine.rate import Rate
from agent.engine.state import VehicleState
from agent.engine.trips import TripKeeper
from agent.engine.watches import LowBatteryMark
from agent.files import write_atomically
from agent.health_mark import HealthMark
from agent.host import SystemClock, boot_id, new_run_id
from agent.identity import identified
from agent.identity.rotation import Rotation
from agent.inputs import Inbox
from agent.jobs.link import JobsLink
from agent.layer import ConfigLayer
from agent.metrics import MetricsServer
from agent.ports import TimeBase
from agent.shadow import RemoteSettings, ShadowLink
from agent.time_anchor import TimeAnchor
from agent.transfer import Broker, FileClient
from agent.transport import Credentials, check_credentials

LAST_RUN_FILE: Final = "last-run.json"

_log = logging.getLogger(__name__)


def software_version() -> str:
    """The installed version, or ``0`` from a source tree that was never installed."""
    try:
        return version("milepost")
    except PackageNotFoundError:
        return "0"


def _make_clock(kept: TimeBase | None) -> SystemClock:
    return SystemClock(kept=kept)


class Agent:
    """The whole agent; ``start()`` once; ``stop()`` also after a start that failed.

    ``layer`` is where ``settings`` come from, where there is a config file. ``ask_for_time``
    gets the seconds that a slow part of the composition may take from then on.
    ``make_clock`` is for a test's process that runs the agent on a board with a wrong
    clock: it is given the time that an earlier process of this boot trusted.
    """

    def __init__(
        self,
        settings: AgentSettings,
        make_clock: Callable[[TimeBase | None], SystemClock] = _make_clock,
        layer: ConfigLayer | None = None,
        ask_for_time: Callable[[float], None] = lambda _: None,
    ) -> None:
        configured = settings
        settings = identified(settings)
        self.settings = settings
        this_boot = boot_id()
        anchor = TimeAnchor(settings.state.runtime_dir, this_boot)
        self.clock = make_clock(anchor.load())
        self._started = False
        check_credentials(Credentials.of(settings.broker))
        state_dir.prepare(settings.state)
        first_outbox = state_dir.make_first_outbox(settings.state.dir / OUTBOX_FILE)
        self._remote: RemoteSettings | None = None
        if settings.shadow.mode is ShadowMode.ON:
            self._remote = RemoteSettings(settings, settings.state.dir)
            settings = self._remote.settings
        inbox = Inbox()
        self._sources = SourceSet(settings, inbox, self.clock, ask_for_time)
        first_outbox.join()
        run_id = new_run_id()
        state = VehicleState(
            observe_time=self.clock.observe_gps,
            readers=self._sources.readers,
            position=settings.position,
            stale_after_s=settings.gps.stale_after_s,
            odometer=GpsOdometer(settings.state.dir),
        )
        mark = HealthMark(settings.state.runtime_dir, boot_id=this_boot, run_id=run_id)
        files = FileClient(lambda: _broker(configured))
        self.delivery = Delivery(
            clock=self.clock,
            vehicle_id=settings.vehicle.id,
            run_id=run_id,
            state_dir=settings.state.dir,
            outbox=settings.outbox,
            delivery=settings.delivery,
            broker=settings.broker,
            budget=settings.budget,
            software_version=software_version(),
            boot_id=this_boot,
            remember_time=anchor.save,
            on_first_ack=mark.acknowledged,
            fixes_rejected=state.fixes_rejected,
            frames_dropped=self._sources.frames_dropped,
            files_wire_bytes=files.wire_bytes,
        )
        self.engine = Engine(
            identity=EngineIdentity(settings.vehicle.id, run_id),
            sampling=settings.sampling,
            clock=self.clock,
            inbox=inbox,
            state=state,
            trips=TripKeeper(
                settings.state.dir,
                boot_id=this_boot,
                resume_s=settings.sampling.thresholds.trip_resume_s,
            ),
            recorder=self.delivery,
            on_rate=self._on_rate,
            take_unreported_drops=self.delivery.take_unreported_drops,
            budget_stages=self.delivery.budgets.stages,
            take_budget_changes=self.delivery.budgets.take_changes,
            low_battery=LowBatteryMark(settings.state.dir),
        )
        self._shadow: ShadowLink | None = None
        if self._remote is not None:
            self._remote.on_change(self.apply)
            self._shadow = ShadowLink(
                clock=self.clock,
                vehicle_id=settings.vehicle.id,
                exchange=self.delivery.exchange,
                remote=self._remote,
            )
        self._layer = layer
        self.wants_restart = False
        """The stop that was asked for is to end in another start."""
        self.rotation = Rotation(
            clock=self.clock,
            state_dir=settings.state.dir,
            vehicle_id=settings.vehicle.id,
            broker=settings.broker,
            token=configured.broker.pkcs11,
            settings=settings.identity,
            exchange=self.delivery.exchange,
            publisher=self.delivery.publisher,
            tell=inbox.put,
        )
        self._jobs: JobsLink | None = None
        if settings.jobs.mode is JobsMode.ON:
            self._jobs = make_jobs(
                settings=settings.jobs,
                layer=layer,
                check=lambda new: check(identified(new)),
                delivery=self.delivery,
                clock=self.clock,
                vehicle_id=settings.vehicle.id,
                run_id=run_id,
                state_dir=settings.state.dir,
                restart=self._restart,
                rotation=self.rotation,
                files=files,
            )
        self._metrics = MetricsServer(settings.metrics, self.account)
        self._control = ControlServer(
            settings.state.runtime_dir, self.account, {"rotate": self.rotation.take}
        )
        _log.info("vehicle %s, run %s", settings.vehicle.id, run_id)

    def start(self) -> None:
        """Start all threads; returns when they run.

        Raises:
            StateError: a directory cannot be used, or another agent uses it.
        """
        state_dir.claim(self.settings.state.dir, self.settings.vehicle.id)
        self.delivery.start()
        self._started = True
        self.engine.start()
        self._sources.start()
        if self._shadow is not None:
            self._shadow.start()
        self.rotation.start()
        self._control.start()
        self._metrics.start()
        if self._jobs is not None:
            self._jobs.start()
        memory.give_back()

    def stop(self) -> None:
        """Stop in order, deliver what can be delivered, and leave the last account."""
        if self._jobs is not None:
            self._jobs.stop()
        self.rotation.stop()
        if self._shadow is not None:
            self._shadow.stop()
        self._sources.stop()
        self.engine.stop()
        self.delivery.stop(self.settings.delivery.shutdown_drain_s)
        self._metrics.stop()
        self._control.stop()
        if not self._started:
            return
        try:
            account = json.dumps(self.account(), indent=2) + "\n"
            write_atomically(self.settings.state.dir / LAST_RUN_FILE, account.encode())
        except OSError as error:
            _log.warning("%s cannot be written: %s", LAST_RUN_FILE, error)

    def apply(self, settings: AgentSettings) -> None:
        """Use other values of the live keys (``agent.config.live``) from now on; any thread."""
        self.engine.apply(settings.sampling)
        self.delivery.apply(
            delivery=settings.delivery, outbox=settings.outbox, budget=settings.budget
        )

    def progress(self) -> float:
        """Monotonic time since when engine and publisher have both made progress."""
        return min(self.engine.progress(), self.delivery.progress())

    def account(self) -> dict[str, Any]:
        """What was created, delivered and dropped; from any thread."""
        return {
            **self.engine.account(),
            # last, so that its books balance at every moment: the engine counts earlier
            **self.delivery.account(),
            "shadow": self._shadow.account() if self._shadow else None,
            "jobs": self._jobs.account() if self._jobs else None,
            "config_layer": self._layer.account() if self._layer else None,
            "identity": self.rotation.account(),
            **self._sources.account(),
        }

    def _restart(self) -> None:
        self.wants_restart = True
        os.kill(os.getpid(), signal.SIGTERM)

    def _on_rate(self, rate: Rate) -> None:
        self._sources.on_rate(rate)
        self.delivery.set_rate(rate)


def _broker(configured: AgentSettings) -> Broker:
    """With the identity of this moment, which a rotation changes."""
    broker = identified(configured).broker
    return Broker(broker.host, Credentials.of(broker))
