"""A vehicle's shadow conversation and the one-machine cloud's store, without a network between."""

import itertools
import json
from collections import deque

from agent.config.load import parse
from agent.shadow.conversation import Conversation
from agent.shadow.remote import RemoteSettings
from cloud.errors import ShadowError
from cloud.shadow.answers import error_document
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite_shadows import SqliteShadows
from contract.shadow import ShadowTopics
from tests.fakes.clock import FakeClock

VAN = ShadowTopics("van-1")


def file_settings(folder, **sections):
    """An agent's settings as its config file would give them."""
    table = {
        "vehicle": {"id": "van-1"},
        "broker": {"host": "h", "ca_file": "a", "certificate_file": "b", "key_file": "c"},
        **sections,
    }
    return parse(table, folder / "agent.toml")


class Pair:
    """Time goes by only in ``run``; everything said is in ``said`` and ``heard``."""

    def __init__(self, folder, **sections):
        self.folder = folder
        self.now_s = 1000.0
        self.said, self.heard, self.applied = [], [], []
        self.broken = None
        """An answer to every request instead of the service's own."""
        self.lossy = False
        self._underway = deque()
        (folder / "cloud").mkdir(exist_ok=True)
        database = Database(folder / "cloud" / "milepost.db", MIGRATIONS, create=True)
        self.cloud = SqliteShadows(database, FakeClock())
        self._tokens = (f"token-{n}" for n in itertools.count())
        self.restart(**sections)

    def restart(self, **sections):
        """The agent's process ends and another begins on the same state directory."""
        self.remote = RemoteSettings(file_settings(self.folder, **sections), self.folder)
        self.remote.on_change(self.applied.append)
        self.talk = Conversation(
            topics=VAN,
            remote=self.remote,
            send=self._send,
            new_token=lambda: next(self._tokens),
            now_s=self.now_s,
        )
        self.online = False

    def connect(self):
        self.online = True
        self.cloud.take_announcements()
        self.talk.connected(self.now_s)
        self.run()

    def disconnect(self):
        self.online = False
        self._underway.clear()
        self.talk.disconnected()

    def desire(self, desired, **more):
        """The operator asks for something; the vehicle hears of it if it is connected."""
        self.cloud.update("van-1", {"state": {"desired": desired}, **more})
        for one in self.cloud.take_announcements():
            if self.online:
                self._underway.append(one)

    def hear(self, topic, document):
        """A message that the service never sent."""
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.talk.received(topic, payload, self.now_s)
        self.run()

    def run(self, duration_s=2.0):
        end_s = self.now_s + duration_s
        while True:
            wait_s = self.talk.step(self.now_s)
            if self._underway:
                topic, payload = self._underway.popleft()
                self.heard.append((topic, json.loads(payload)))
                self.talk.received(topic, payload, self.now_s)
            elif wait_s is None or self.now_s + wait_s > end_s:
                self.now_s = end_s
                return
            else:
                self.now_s += max(wait_s, 0.001)

    def reported(self):
        return self.cloud.get("van-1")["state"].get("reported")

    def counts(self):
        """Questions and reports since the last time."""
        topics = [topic for topic, _ in self.said]
        self.said.clear()
        return sum(t.endswith("/get") for t in topics), sum(t.endswith("/update") for t in topics)

    def _send(self, topic, payload):
        assert len(payload) <= 128 * 1024
        if not self.online:
            return False
        self.said.append((topic, json.loads(payload)))
        if self.lossy:
            return True
        action = VAN.action_of(topic)
        if self.broken is not None:
            error = ShadowError(self.broken, "broken", client_token=self._token(payload))
            document = json.dumps(error_document(error, 0)).encode()
            self._underway.append((VAN.rejected(action), document))
            return True
        try:
            answers = self.cloud.answer("van-1", action, payload)
        except ShadowError as error:
            document = error_document(error, 0)
            answers = [(VAN.rejected(action), json.dumps(document).encode())]
        self._underway.extend(one for one in answers if one[0] != VAN.documents)
        return True

    @staticmethod
    def _token(payload):
        return json.loads(payload).get("clientToken")
