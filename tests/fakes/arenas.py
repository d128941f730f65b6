"""Two brokers that must keep vehicles apart: the embedded one, and Mosquitto as we ship it.

Both have the same authority, registry and certificates, so that a test tries the same thing
on each. ``Mosquitto`` runs with what ``milepost-cloud mosquitto`` writes and nothing else.
"""

import getpass
import itertools
import logging
import subprocess
from base64 import b64encode
from contextlib import ExitStack
from datetime import timedelta

from click.testing import CliRunner

from cloud.cli import cli
from cloud.clock import SystemClock
from cloud.pki.certificates import VEHICLE, make_authority, sign
from cloud.provisioning.ports import AllowedVehicle, Principal, PrincipalKind
from cloud.serve.jobs_service import JobsService
from cloud.serve.provisioning_service import ProvisioningService
from cloud.serve.shadow_service import ShadowService
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import DATABASE_NAME
from cloud.stores.sqlite_fleet import SqliteFleet
from cloud.stores.sqlite_job_executions import SqliteJobExecutions
from cloud.stores.sqlite_registry import SqliteRegistry
from cloud.stores.sqlite_shadows import SqliteShadows
from tests.conftest import program
from tests.fakes.mosquitto import MosquittoSub
from tests.fakes.one_machine import (
    RunningBroker,
    Vehicle,
    authority_in,
    identity,
    sample_json,
    wait_until,
)
from tests.fakes.pki import Identity

READER = "backend"
_MARKS = itertools.count(0xABCD0001)


class LogLines(logging.Handler):
    """Keeps what is logged, from any thread."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class Arena:
    """What both have: certificates of every kind, in folders that a client connects with."""

    def __init__(self, data):
        self.data = data
        self.clock = SystemClock()
        self._stack = ExitStack()
        self._seen = 0
        database = Database(data / DATABASE_NAME, MIGRATIONS, create=True)
        self._stack.callback(database.close)
        self.authority = authority_in(data / "pki")
        self.registry = SqliteRegistry(database, self.clock)
        self.fleet = SqliteFleet(database, self.registry, self.authority, self.clock)
        self.executions, self.shadows = (
            kind(database, self.clock) for kind in (SqliteJobExecutions, SqliteShadows)
        )

    def close(self):
        self._stack.close()

    def prepare(self):
        """Every certificate that the tests use, while the broker does not run yet."""
        for vehicle_id in ("van-1", "van-2", "van-3"):
            self.issued(vehicle_id)
        for vehicle_id in ("van-revoked", "van-blocked", "van-retired"):
            self.issued(vehicle_id)
        self.registry.revoke("van-revoked")
        self.fleet.block("van-blocked")
        (old,) = self.registry.identities("van-retired")
        self.registry.retire("van-retired", [old.certificate_id])
        long_ago = self.clock.utc() - timedelta(days=40)
        self.issued("van-expired", now=long_ago, days=30)
        self._keep("claim", self.fleet.create_claim("workshop", None).credentials)
        self._keep("claim-revoked", self.fleet.create_claim("lost", None).credentials)
        self.fleet.revoke_claim("lost")
        made = self.authority.issue_provisioned(self.clock.utc())
        asker = Principal(PrincipalKind.CLAIM, "workshop", "0" * 64)
        self.registry.requested.add(made.certificate_pem, "token", asker)
        self._keep("pending", made)
        self._trusting(
            identity(authority_in(self.data / "foreign"), "van-1", self.folder("foreign"))
        )
        namesake = make_authority(self.clock.utc())  # our authority's name, another key
        forged = sign(namesake, common_name="van-1", usage=VEHICLE, now=self.clock.utc(), days=9)
        self._pair("forged", forged)
        self._pair("self-signed", namesake)
        server = self.authority.server_file([], self.clock.utc()).read_bytes()
        self.folder("server").mkdir()
        for name in ("certificate.pem", "key.pem"):
            (self.folder("server") / name).write_bytes(server)
        self._trusting(self.folder("server"))
        self.fleet.allow([AllowedVehicle(f"S{n}", f"van-{n}") for n in (1, 8, 9)])
        self.fleet.block("van-9")

    def folder(self, name):
        """Where the files of a client are."""
        return self.data / "ids" / name

    def issued(self, vehicle_id, **options):
        """A vehicle's own certificate, made once."""
        if not self.folder(vehicle_id).exists():
            identity(
                self.authority,
                vehicle_id,
                self.folder(vehicle_id),
                registry=self.registry,
                **options,
            )
        return self.folder(vehicle_id)

    def _keep(self, name, credentials):
        credentials.write_to(self.folder(name))

    def _pair(self, name, pair):
        folder = self.folder(name)
        folder.mkdir(parents=True)
        (folder / "certificate.pem").write_bytes(pair.certificate_pem)
        (folder / "key.pem").write_bytes(pair.key_pem)
        self._trusting(folder)

    def _trusting(self, folder):
        (folder / "ca.pem").write_bytes(self.authority.certificate_file.read_bytes())

    def client(self, name, client_id, **options):
        """A client with these files, not connected yet."""
        return Vehicle(self.port, self.folder(name), client_id, **options)

    def forget(self):
        """What is in the log so far counts no more."""
        self._seen = len(self._lines())

    def log(self):
        """What an operator sees, since ``forget``."""
        return self._lines()[self._seen :]

    def told(self, *words):
        """Wait for a line of the log that has all the words."""

        def there():
            return any(all(word in line for word in words) for line in self.log())

        wait_until(there, f"a line with {words} in: {self.log()[-30:]}")

    def kept_out(self, payload):
        """Nothing of ``payload`` got in: what an honest vehicle sends after it arrives alone."""
        mark = f"{next(_MARKS):08x}"
        with self.client("van-3", "van-3") as honest:
            assert honest.connect()
            honest.publish_acked("telemetry/van-3", sample_json("van-3", run_id=mark))
        wait_until(lambda: any(mark in text for text in self.arrived()), "the honest vehicle's")
        forms = (payload.decode(), b64encode(payload).decode())
        assert not any(form in text for text in self.arrived() for form in forms)


class Embedded(Arena):
    """The one-machine cloud's broker with its services; it hears of changes while it runs."""

    is_ours = True

    def __init__(self, data):
        super().__init__(data)
        self._log = LogLines()
        self._stack.callback(logging.getLogger("cloud").removeHandler, self._log)
        logging.getLogger("cloud").addHandler(self._log)

    def start(self):
        """Run the broker until the end of the test."""
        self._running = self._stack.enter_context(
            RunningBroker(
                self.data,
                services=[
                    ShadowService(self.shadows, self.clock),
                    JobsService(self.executions, self.clock),
                ],
                private_services=[ProvisioningService(self.authority, self.registry, self.clock)],
            )
        )
        self.port = self._running.port
        return self

    def _lines(self):
        return list(self._log.lines)

    def arrived(self):
        """The messages that got in, as text."""
        streams = ("TelemetryStream", "VehicleStatusTable", "DeadLetterQueue")
        return [one.data.decode() for stream in streams for one in self._running.records(stream)]


class OnMosquitto(Arena):
    """A real Mosquitto with the configuration that we ship, and a reader of everything."""

    is_ours = False

    def __init__(self, data, port):
        super().__init__(data)
        self.port = port
        self._folder = data / "mosquitto"

    def start(self):
        """Run the broker until the end of the test; what is revoked later it does not know."""
        reader = self.issued(READER)
        words = ("--data", self.data, "--out", self._folder, "--port", self.port)
        done = CliRunner().invoke(
            cli, ["mosquitto", *map(str, words), "--reader", READER], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        config = self.data / "mosquitto.conf"
        config.write_text(  # what a distribution's own file says
            f"user {getpass.getuser()}\npersistence false\n"
            f"log_dest file {self.data / 'mosquitto.log'}\ninclude_dir {self._folder}\n"
        )
        process = subprocess.Popen(
            [program("mosquitto"), "-c", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.wait, 10)
        self._stack.callback(process.terminate)
        wait_until(
            lambda: any("running" in line for line in self._lines()), f"Mosquitto: {self._lines()}"
        )
        own = Identity(reader / "ca.pem", reader / "certificate.pem", reader / "key.pem")
        self._reader = self._stack.enter_context(MosquittoSub(own, self.port, "#"))
        return self

    def _lines(self):
        path = self.data / "mosquitto.log"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def arrived(self):
        """The messages that got in, as text."""
        return [payload.decode(errors="replace") for _, payload in list(self._reader.messages)]
