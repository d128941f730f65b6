"""The same certificates at the file exchange of the one-machine cloud, which speaks HTTPS."""

import http.client
import logging

import pytest

from agent.transfer.connection import vehicle_context
from contract.files import artifact_path, upload_path
from tests.fakes.arenas import Embedded
from tests.fakes.file_exchange import RunningExchange, credentials_in

pytestmark = pytest.mark.xdist_group("isolation-embedded")


@pytest.fixture(scope="module")
def exchange(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exchange")
    logging.getLogger("cloud").setLevel(logging.INFO)
    place = Embedded(folder)
    try:
        place.prepare()
        source = folder / "source.deb"
        source.write_bytes(b"a package")
        with RunningExchange(folder) as running:
            running.place, running.sha256 = place, running.files.add_artifact(source)
            running.jobs.add(("van-1", "job-1"))
            yield running
    finally:
        place.close()


def ask(exchange, name, method, path):
    """The answer's status; None when TLS lets nobody in."""
    exchange.place.forget()
    context = vehicle_context(credentials_in(exchange.place.folder(name)))
    connection = http.client.HTTPSConnection(
        "localhost", exchange.port, context=context, timeout=20
    )
    try:
        connection.request(method, path, body=b"evil" if method == "PUT" else None)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_a_vehicle_fetches_what_it_is_to_install(exchange):
    assert ask(exchange, "van-1", "GET", artifact_path(exchange.sha256)) == 200


@pytest.mark.parametrize(
    "name", ["claim", "claim-revoked", "pending", "van-revoked", "van-blocked", "van-retired"]
)
def test_25_fetching_or_sending_with_a_certificate_that_does_not_count(exchange, name):
    for method, path in (("GET", artifact_path(exchange.sha256)), ("PUT", upload_path("job-1"))):
        assert ask(exchange, name, method, path) == 403
        exchange.place.told(f"refused {method} {path}", "not an active one of a vehicle")
    assert not list(exchange.folder.glob("uploads/*/*"))


@pytest.mark.parametrize("name", ["van-expired", "foreign", "forged", "self-signed", "server"])
def test_26_fetching_with_a_certificate_that_is_none_of_ours(exchange, name):
    assert ask(exchange, name, "GET", artifact_path(exchange.sha256)) is None


def test_27_sending_the_file_of_anothers_job(exchange):
    assert ask(exchange, "van-2", "PUT", upload_path("job-1")) == 404
    exchange.place.told("refused an upload of van-2", "no such job job-1")
    assert not list(exchange.folder.glob("uploads/*/*"))


@pytest.mark.parametrize(
    "path", ["/uploads/../pki/ca/key.pem", "/artifacts/..%2f..%2fpki%2fca%2fkey.pem"]
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_28_reaching_out_of_the_folders(exchange, method, path):
    assert ask(exchange, "van-1", method, path) in {404, 405}
