"""The one-machine cloud's file exchange in its thread, and servers that misbehave."""

import contextlib
import http.server
import ssl
import threading
from contextlib import contextmanager

from agent.transfer import Broker, FileClient
from agent.transport import Credentials
from cloud.clock import SystemClock
from cloud.file_store import FileStore
from cloud.serve.file_server import file_server
from cloud.serve.sockets import bind
from cloud.serve.tls import server_context
from cloud.stores.database import Database
from cloud.stores.schema import MIGRATIONS
from cloud.stores.sqlite import DATABASE_NAME
from cloud.stores.sqlite_registry import SqliteRegistry
from tests.fakes.one_machine import authority_in, identity


class RunningExchange:
    """``jobs`` holds the pairs of vehicle and job that may send a file."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = authority_in(folder / "pki")
        self.database = Database(folder / DATABASE_NAME, MIGRATIONS, create=True)
        self.registry = SqliteRegistry(self.database, SystemClock())
        self.files = FileStore(folder)
        self.jobs = set()
        listener = bind("127.0.0.1", 0, purpose="files", option="--files-port")
        self.port = listener.getsockname()[1]
        server_file = self.authority.server_file([], SystemClock().utc())
        self._server = file_server(
            listener,
            server_context(self.authority.certificate_file, server_file),
            self.files,
            self.registry,
            lambda vehicle_id, job_id: (vehicle_id, job_id) in self.jobs,
        )

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop()
        self.database.close()

    def credentials(self, vehicle_id="van-1", **options):
        folder = self.folder / "ids" / vehicle_id
        identity(self.authority, vehicle_id, folder, registry=self.registry, **options)
        return credentials_in(folder)

    def client(self, vehicle_id="van-1", **options):
        credentials = self.credentials(vehicle_id, **options)
        return FileClient(lambda: Broker("127.0.0.1", credentials))


def credentials_in(folder, server_name="localhost"):
    return Credentials(
        ca_file=folder / "ca.pem",
        certificate_file=folder / "certificate.pem",
        key_file=folder / "key.pem",
        server_name=server_name,
    )


@contextmanager
def https_server(pki, answer):
    """An HTTPS server on localhost; ``answer(handler)`` writes each answer. Gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            with contextlib.suppress(OSError):
                answer(self)
            self.close_connection = True

        do_PUT = do_GET  # noqa: N815  likewise

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    identity_of_server = pki.broker()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity_of_server.certificate_file, identity_of_server.key_file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def trusting(pki):
    """A client of no broker that trusts a test's CA in place of the system's."""

    def context():
        return ssl.create_default_context(cafile=pki.ca_file)

    return FileClient(lambda: (_ for _ in ()).throw(AssertionError), system_context=context)
