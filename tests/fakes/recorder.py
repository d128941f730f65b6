"""A recorder that keeps what it is given, and a CAN source that says what a test wants."""


class ListRecorder:
    """Implements agent.ports.Recorder."""

    def __init__(self):
        self.samples = []
        self.events = []

    def record_sample(self, sample):
        self.samples.append(sample)

    def record_event(self, event):
        self.events.append(event)

    def event_types(self):
        return [event.event_type for event in self.events]


class FixedReader:
    """Implements agent.inputs.SignalReader; set ``values`` and ``at_s``."""

    def __init__(self, **values):
        self.values = values
        self.at_s = None

    def read(self, now_s):
        return dict(self.values)

    def sampled(self):
        pass

    def received_s(self, name):
        return self.at_s if name in self.values else None
