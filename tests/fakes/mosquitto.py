"""A real Mosquitto with mutual TLS and the per-vehicle access list, and an independent listener.

The broker's certificate is the vehicle's gate: ``require_certificate``, the common name
is the user name, and ``pattern write …/%u`` lets each vehicle write its own topics only.
"""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
LISTENER = "listener"

ACL = f"""
pattern write telemetry/%u
pattern write telemetry/%u/batch
pattern write events/%u
pattern write status/%u
pattern readwrite $aws/things/%u/#

user {LISTENER}
topic readwrite #
topic readwrite $aws/things/#
"""

CONFIG = """
per_listener_settings false
listener {port} 127.0.0.1
cafile {identity.ca_file}
certfile {identity.certificate_file}
keyfile {identity.key_file}
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {acl}
persistence false
user {user}
log_dest stderr
log_type all
connection_messages true
{extra}
"""


def _program(name):
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise FileNotFoundError(name)
    return found


def _wait(condition, what, timeout_s=15.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


class Mosquitto:
    """``start``, ``kill`` (no farewell, as a power cut) and ``start`` again on one port."""

    def __init__(self, folder, identity, port, extra="", acl=""):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.log_file = self.folder / "mosquitto.log"
        rules = self.folder / "acl"
        rules.write_text(ACL + acl, encoding="utf-8")
        rules.chmod(0o600)
        self._config = self.folder / "mosquitto.conf"
        self._config.write_text(
            CONFIG.format(
                port=port, identity=identity, acl=rules, extra=extra, user=getpass.getuser()
            ),
            encoding="utf-8",
        )
        self._process = None

    def start(self):
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("mosquitto"), "-c", str(self._config)], stdout=log, stderr=log
            )
        _wait(self._answers, f"mosquitto does not listen: {self.log()}")
        return self

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"mosquitto ended: {self.log()}")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    stop = kill

    def end(self):
        """SIGTERM: with ``persistence`` it saves what it acknowledged and has not passed on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def log(self):
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()


def mosquitto_pub(identity, port, topic, payload, *, retain=False):
    """Publish at QoS 1 as the listener, by a program of its own; returns on the PUBACK."""
    subprocess.run(
        [
            *(_program("mosquitto_pub"), "-h", "localhost", "-p", str(port), "-V", "mqttv311"),
            *("--cafile", str(identity.ca_file), "--cert", str(identity.certificate_file)),
            *("--key", str(identity.key_file), "-q", "1", "-t", topic, "-s"),
            *(["-r"] if retain else []),
        ],
        input=payload,
        check=True,
        timeout=30,
    )


class MosquittoSub:
    """``mosquitto_sub`` with its own certificate; ``messages`` is ``[(topic, payload)]``.

    ``keeps_session``: the broker keeps for it what comes while it is away.
    """

    def __init__(self, identity, port, topic="#", *, keeps_session=False):
        self.port = port
        self.messages = []
        self._lock = threading.Lock()
        self._identity, self._topic, self._keeps_session = identity, topic, keeps_session
        self._stopping = False
        self._process = self._launch()
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._read, name="mosquitto-sub", daemon=True)
        self._thread.start()
        if not self._subscribed.wait(15):
            self.stop()
            raise TimeoutError("mosquitto_sub did not subscribe")

    def _launch(self):
        of = self._identity
        return subprocess.Popen(
            [
                *("stdbuf", "-oL", _program("mosquitto_sub")),
                *("-h", "localhost", "-p", str(self.port), "-V", "mqttv311", "-i", LISTENER),
                *("--cafile", str(of.ca_file), "--cert", str(of.certificate_file)),
                *("--key", str(of.key_file), "-q", "1", "-t", self._topic, "-F", "%t %x", "-d"),
                *(("-c",) if self._keeps_session else ()),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _read(self):
        while True:
            self._read_to_its_end()
            with self._lock:
                if self._stopping or not self._keeps_session:
                    return
                # it gives up where a TLS handshake fails, as one may while a broker goes down
                time.sleep(0.2)
                self._process = self._launch()

    def _read_to_its_end(self):
        for line in self._process.stdout:
            if line.startswith("Subscribed"):
                self._subscribed.set()
            topic, _, payload = line.rstrip("\n").partition(" ")
            if "/" in topic and not line.startswith(("Client ", "Subscribed")):
                with self._lock:
                    self.messages.append((topic, bytes.fromhex(payload)))

    def on(self, topic):
        """Payloads on one topic so far, in order."""
        with self._lock:
            return [payload for name, payload in self.messages if name == topic]

    def wait_for(self, topic, count, timeout_s=20.0):
        _wait(lambda: len(self.on(topic)) >= count, f"{count} messages on {topic}", timeout_s)
        return self.on(topic)

    def end(self):
        """Say goodbye, so that nothing is acknowledged and not in ``messages``."""
        self._stopping = True
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        self.stop()

    def stop(self):
        with self._lock:
            self._stopping = True
            self._process.kill()
        self._process.wait(10)
        self._thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
