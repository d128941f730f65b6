"""A transport in memory: the test decides when it connects, acknowledges and breaks."""

from dataclasses import dataclass

from agent.ports import PublishOutcome


@dataclass
class Published:
    token: int
    topic: str
    payload: bytes
    retain: bool


class FakeTransport:
    """Implements agent.ports.Transport; calls back at once, in the caller's thread."""

    def __init__(self, *, auto_connect=True, auto_ack=False):
        self.auto_connect = auto_connect
        self.auto_ack = auto_ack
        self.connects = 0
        self.disconnects = 0
        self.published = []
        self.waiting = []
        self.acknowledged = []
        self.up = False
        self.farewell = None
        self.subscribed = []
        self.answers = True
        self.refusals = {}
        self.wire = None
        self.credentials = None
        self.dialled_with = []
        self.refused_credentials = {}
        self.leaves = 0

    def start(self, events):
        self._events = events

    def connect(self):
        self.connects += 1
        self.dialled_with.append(self.credentials)
        if self.credentials in self.refused_credentials:
            self.lose(*self.refused_credentials[self.credentials])
        elif self.auto_connect:
            self.accept()

    def accept(self):
        self.up = True
        self._events.on_connected()

    def publish(self, token, topic, payload, *, retain=False):
        one = Published(token, topic, payload, retain)
        self.published.append(one)
        if not self.up:
            self._events.on_outcome(token, PublishOutcome.CONNECTION_LOST)
            return
        self.waiting.append(one)
        if self.auto_ack:
            self.ack_all()

    def subscribe(self, filters):
        self.subscribed.append(tuple(filters))
        if self.answers:
            for one in filters:
                self._events.on_subscribed(one, self.refusals.get(one))

    def send(self, topic, payload):
        """What the broker sends to the vehicle."""
        self._events.on_message(topic, payload)

    def ack(self, one):
        self.waiting.remove(one)
        self.acknowledged.append(one)
        self._events.on_outcome(one.token, PublishOutcome.ACKNOWLEDGED)

    def ack_all(self):
        for one in list(self.waiting):
            self.ack(one)

    def refuse(self, one):
        self.waiting.remove(one)
        self._events.on_outcome(one.token, PublishOutcome.REFUSED)

    def deny(self, one):
        self.waiting.remove(one)
        self._events.on_outcome(one.token, PublishOutcome.DENIED)

    def lose(self, reason="cut", unauthorised=False):  # noqa: FBT002  as the port's callback
        self.up = False
        lost, self.waiting = self.waiting, []
        for one in lost:
            self._events.on_outcome(one.token, PublishOutcome.CONNECTION_LOST)
        self._events.on_disconnected(reason, unauthorised=unauthorised)

    def present(self, credentials):
        self.credentials = credentials

    def leave(self):
        """In order: what is in flight is acknowledged first."""
        self.leaves += 1
        self.ack_all()
        self.lose("closed")

    def disconnect(self):
        self.disconnects += 1
        self.lose("dropped by the agent")

    def wire_bytes(self):
        return self.wire

    def close(self, farewell=None):
        self.farewell = farewell
        self.up = False
