"""Whatever comes on the shadow's topics, the settings stay valid and a report can be sent.

An input is one message a line; its first byte chooses the topic. The clock goes on a minute
with each, so questions and reports are due again.
"""

import itertools
import json
import tempfile
from pathlib import Path

from agent.config.load import parse
from agent.shadow.conversation import Conversation
from agent.shadow.remote import RemoteSettings
from contract.shadow import ShadowAction, ShadowTopics

TOPICS = ShadowTopics("van-1")
ANSWERS = [
    TOPICS.accepted(ShadowAction.GET),
    TOPICS.rejected(ShadowAction.GET),
    TOPICS.accepted(ShadowAction.UPDATE),
    TOPICS.rejected(ShadowAction.UPDATE),
    TOPICS.delta,
]
FILE = {
    "vehicle": {"id": "van-1"},
    "broker": {"host": "h", "ca_file": "a", "certificate_file": "b", "key_file": "c"},
}
FOLDER = tempfile.TemporaryDirectory(prefix="milepost-fuzz-")
SETTINGS = parse(FILE, Path(FOLDER.name) / "agent.toml")


def message(topic: int, document: object) -> bytes:
    return bytes([ord("0") + topic]) + json.dumps(document).encode()


DESIRED = {"sampling": {"normal": {"interval_s": 0.5}}, "delivery": {"batch_s": 10}}
ANSWER = {"state": {"desired": DESIRED, "reported": {"x": 1}}, "version": 7, "clientToken": "t0"}
SEEDS = [
    message(0, ANSWER),
    message(0, ANSWER) + b"\n" + message(2, {"clientToken": "t1", "version": 8, "state": None}),
    message(1, {"code": 404, "message": "No shadow exists", "clientToken": "t0"}),
    message(0, ANSWER) + b"\n" + message(3, {"code": 413, "message": "big", "clientToken": "t1"}),
    message(0, ANSWER) + b"\n" + message(4, {"version": 9, "state": DESIRED}),
    message(0, {**ANSWER, "state": {"desired": {"budgets": {"data_mb_per_day": 1e400}}}}),
]
TOKENS = [b'"clientToken":"t0"', b'"desired":', b'"version":', b"NaN", b'"interval_s":', b'"mode":']


def take(data: bytes) -> None:
    folder = Path(FOLDER.name)
    (folder / "shadow.json").unlink(missing_ok=True)
    remote = RemoteSettings(SETTINGS, folder)
    tokens = (f"t{number}" for number in itertools.count())
    sent: list[bytes] = []

    def send(topic: str, payload: bytes) -> bool:
        sent.append(payload)
        return True

    talk = Conversation(
        topics=TOPICS, remote=remote, send=send, new_token=lambda: next(tokens), now_s=0.0
    )
    talk.connected(0.0)
    talk.step(0.0)
    for number, line in enumerate(data.split(b"\n")[:20], 1):
        topic = ANSWERS[line[0] % len(ANSWERS)] if line else TOPICS.delta
        talk.received(topic, line[1:], 60.0 * number)
        talk.step(60.0 * number)
    assert len(sent) <= 60
    assert all(len(payload) < 64 * 1024 for payload in sent)
    in_force = remote.settings.model_dump()
    assert RemoteSettings(SETTINGS, folder).settings.model_dump() == in_force, "after a restart"
