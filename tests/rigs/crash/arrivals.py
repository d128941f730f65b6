"""What the subscriber recorded, and what the broker's log says that it took."""

import re

from contract import TimeQuality, decode_batch, decode_event, decode_sample
from tests.rigs.crash.judge import Arrival

_TOOK = re.compile(r"Received PUBLISH from \S+ \(.*'(?:telemetry|events)/")


def is_counted(topic):
    """Samples and events; a status says how things are now, and may be lost."""
    return topic.startswith(("telemetry/", "events/"))


def arrivals(messages):
    """``[(topic, payload)]`` as one :class:`Arrival` for each sample and event in it."""
    for topic, payload in messages:
        if not is_counted(topic):
            continue
        if topic.startswith("events/"):
            found = [decode_event(payload)]
        elif topic.endswith("/batch"):
            found = decode_batch(payload)
        else:
            found = [decode_sample(payload)]
        for message in found:
            yield _arrival(message)


def _arrival(message):
    content = message.model_dump()
    times = (content.pop("timestamp"), content.pop("time_quality"))
    location = content.get("location")
    if location:
        times = (*times, location.pop("fix_time", None))
    if message.time_quality is TimeQuality.UNSYNCED:
        times = None
    return Arrival(message.vehicle_id, message.run_id, message.sequence, content, times)


def publishes_taken(broker_log):
    """How many publishes of samples and events a Mosquitto took, by its log."""
    return len(_TOOK.findall(broker_log))
