"""What of the account becomes which metric; pure.

Names follow Prometheus' conventions ("Metric and label naming" in its documentation): base
units, ``_total`` for what only grows. What only grows does so since the agent's process
started, as in the account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX: Final = "milepost_"


class Plain(NamedTuple):
    """One number of the account, or a label and its numbers."""

    name: str
    text: str
    key: str
    """Of the account."""
    label: str = ""
    """For a table of numbers: the label that its keys become."""


COUNTERS: Final = (
    Plain("samples_created", "Samples created", "samples_created"),
    Plain("events_created", "Events created", "events_created"),
    Plain("samples_acknowledged", "Samples of this run acknowledged", "samples_acknowledged"),
    Plain("events_acknowledged", "Events of this run acknowledged", "events_acknowledged"),
    Plain("inherited_acknowledged", "Messages of earlier runs acknowledged",
          "inherited_acknowledged"),
    Plain("messages_dropped", "Messages given up, by reason", "dropped_messages", "reason"),
    Plain("fixes_received", "Positions received", "fixes_received"),
    Plain("fixes_rejected", "Positions not believed, by reason", "fixes_rejected", "reason"),
    Plain("publishes", "MQTT messages published", "publishes"),
    Plain("published_bytes", "Payload published", "bytes_published"),
    Plain("wire_bytes", "Sent and received with every layer's share", "wire_bytes"),
    Plain("flash_written_bytes", "Written to storage by the agent", "flash_bytes_written"),
    Plain("mode_seconds", "Time spent in each mode", "seconds_in_mode", "mode"),
)  # fmt: skip
GAUGES: Final = (
    Plain("connected", "1 while the broker is connected", "connected"),
    Plain("backlog_messages", "Messages that wait in the outbox", "backlog_messages"),
    Plain("inherited_messages", "Messages that earlier runs left", "inherited_messages"),
    Plain("sample_interval_seconds", "Between two samples", "sample_interval_s"),
    Plain("uptime_seconds", "Age of the agent's process", "uptime_s"),
)
BUS_COUNTERS: Final = (
    Plain("can_frames", "Frames of mapped ids", "frames"),
    Plain("can_frames_dropped", "Frames that came and were no use", "dropped"),
    Plain("can_kernel_dropped", "Frames that the socket had no room for", "kernel_dropped"),
    Plain("can_controller_overflows", "Times that the controller lost frames",
          "controller_overflows"),
    Plain("can_error_frames", "Error frames", "error_frames"),
)  # fmt: skip
IDENTITY_TIMES: Final = (
    ("valid_until", "certificate_expires_timestamp_seconds", "When the certificate expires"),
    ("rotation_due_at", "rotation_due_timestamp_seconds", "From when on it is rotated"),
)
ABOUT: Final = ("vehicle_id", "run_id", "software_version", "mode", "time_quality")


class AccountCollector(Collector):
    """Asks for the account whenever somebody reads the page."""

    def __init__(self, account: Callable[[], dict[str, Any]]) -> None:
        self._account = account

    def collect(self) -> Iterator[Metric]:
        """The metrics now."""
        return metrics(self._account())

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: registering must not ask an agent that has not started."""
        return iter(())


def metrics(account: Mapping[str, Any]) -> Iterator[Metric]:
    """The account's metrics; what the account does not have or does not know is left out."""
    about = {key: str(account.get(key) or "") for key in ABOUT}
    info = GaugeMetricFamily(f"{PREFIX}agent_info", "Always 1; who this is", labels=list(about))
    info.add_metric(list(about.values()), 1)
    yield info
    for family, table in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
        for one in table:
            found = account.get(one.key)
            if one.label and isinstance(found, Mapping):
                made = family(PREFIX + one.name, one.text, labels=[one.label])
                for key, value in found.items():
                    made.add_metric([str(key)], value)
                yield made
            elif isinstance(found, int | float):
                yield family(PREFIX + one.name, one.text, value=found)
    standing = GaugeMetricFamily(f"{PREFIX}faults", "Trouble codes that stand")
    standing.add_metric([], len(account.get("faults") or ()))
    yield standing
    yield from _identity(account.get("identity") or {})
    yield from _buses(account.get("can") or ())


def _identity(identity: Mapping[str, Any]) -> Iterator[Metric]:
    for key, name, text in IDENTITY_TIMES:
        if identity.get(key):
            moment = datetime.fromisoformat(identity[key])
            yield GaugeMetricFamily(PREFIX + name, text, value=moment.timestamp())
    last = identity.get("last_rotation")
    if last:
        text = "1 if the last rotation of the identity failed"
        yield GaugeMetricFamily(f"{PREFIX}rotation_failed", text, value=not last["succeeded"])


def _buses(buses: Any) -> Iterator[Metric]:
    for one in BUS_COUNTERS:
        made = CounterMetricFamily(PREFIX + one.name, one.text, labels=["channel"])
        for bus in buses:
            made.add_metric([str(bus["channel"])], bus[one.key])
        yield made
    up = GaugeMetricFamily(
        f"{PREFIX}can_up", "1 while the bus is open", labels=["channel", "state"]
    )
    for bus in buses:
        up.add_metric([str(bus["channel"]), str(bus["state"])], bus["state"] != "down")
    yield up
