import hashlib
import http.client
import json
import ssl

import pytest

from agent.transfer import Broker, FileClient, TransferError, UrlError, place_of
from agent.transfer.connection import vehicle_context
from agent.transfer.errors import StoppedError
from cloud.file_store import FileStore
from contract.files import MAX_UPLOAD_BYTES, artifact_path, broker_url, upload_path
from tests.fakes.file_exchange import RunningExchange, credentials_in, https_server, trusting
from tests.fakes.one_machine import milepost_cloud, running_cloud
from tests.fakes.pki import Pki
from tests.fakes.relay import Relay

CONTENT = bytes(range(256)) * 3_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def exchange(tmp_path):
    with RunningExchange(tmp_path / "cloud") as running:
        yield running


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path / "pki")


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(b"diagnostics" * 1000)
    return path


def artifact_of(exchange, tmp_path):
    source = tmp_path / "source.deb"
    source.write_bytes(CONTENT)
    assert exchange.files.add_artifact(source) == SHA256
    return broker_url(exchange.port, artifact_path(SHA256))


def fetch(client, url, target, **options):
    client.download(url, target, size_bytes=len(CONTENT), sha256=SHA256, **options)


def test_a_vehicle_fetches_an_artifact_by_its_digest(exchange, tmp_path):
    target = tmp_path / "package.deb"
    fetch(exchange.client(), artifact_of(exchange, tmp_path), target)
    assert target.read_bytes() == CONTENT
    assert not target.with_name("package.deb.part").exists()


def test_a_download_that_was_stopped_goes_on_where_it_was(exchange, tmp_path):
    url, target, seen = artifact_of(exchange, tmp_path), tmp_path / "package.deb", []
    client = exchange.client()
    with pytest.raises(StoppedError):
        fetch(client, url, target, progress=lambda have: have < 200_000)
    part = target.with_name("package.deb.part")
    kept = part.stat().st_size
    assert 200_000 <= kept < len(CONTENT)
    fetch(client, url, target, progress=lambda have: seen.append(have) or True)
    assert seen[0] == kept
    assert target.read_bytes() == CONTENT


def test_what_is_kept_of_another_file_is_found_out_and_thrown_away(exchange, tmp_path):
    url, target = artifact_of(exchange, tmp_path), tmp_path / "package.deb"
    target.with_name("package.deb.part").write_bytes(b"of another package")
    with pytest.raises(TransferError, match="SHA-256"):
        fetch(exchange.client(), url, target)
    fetch(exchange.client(), url, target)
    assert target.read_bytes() == CONTENT


def test_what_files_put_on_the_wire_is_counted_with_every_layers_share(exchange, bundle, tmp_path):
    client, sha256 = exchange.client(), artifact_of(exchange, tmp_path).rpartition("/")[2]
    assert client.wire_bytes() == 0
    with Relay(exchange.port) as relay:

        def is_counted():
            return relay.relayed_bytes <= client.wire_bytes() <= 1.2 * relay.relayed_bytes + 10_000

        fetch(client, broker_url(relay.port, artifact_path(sha256)), tmp_path / "package.deb")
        assert len(CONTENT) < client.wire_bytes()
        assert is_counted()
        with pytest.raises(TransferError, match="404"):
            client.upload(
                broker_url(relay.port, upload_path("no-job")), bundle, progress=lambda _: True
            )
        assert is_counted()


def test_a_handshake_that_fails_is_counted_too(exchange, pki, tmp_path):
    def answer(handler):
        raise AssertionError("nobody comes so far")

    client = exchange.client()
    with https_server(pki, answer) as url, pytest.raises(TransferError, match="not accepted"):
        fetch(client, f"{url}/package.deb", tmp_path / "package.deb")
    assert client.wire_bytes() > 500


def test_an_upload_is_kept_once_and_whole(exchange, bundle):
    exchange.jobs.add(("van-1", "job-1"))
    client, url = exchange.client(), broker_url(exchange.port, upload_path("job-1"))
    client.upload(url, bundle, progress=lambda _: True)
    kept = exchange.files.upload("van-1", "job-1")
    assert kept.read_bytes() == bundle.read_bytes()
    bundle.write_bytes(b"another")
    client.upload(url, bundle, progress=lambda _: True)  # its answer may have been lost
    assert kept.read_bytes() == b"diagnostics" * 1000
    assert [path.name for path in kept.parent.iterdir()] == ["job-1.tar.gz"]


@pytest.mark.parametrize("job_id", ["job-1", "other", "..%2f..%2fescape", "a" * 65])
def test_only_the_vehicle_that_has_the_job_may_send_its_file(exchange, bundle, job_id):
    exchange.jobs.add(("van-2", "job-1"))
    with pytest.raises(TransferError, match="404") as refusal:
        exchange.client("van-1").upload(
            broker_url(exchange.port, upload_path(job_id)), bundle, progress=lambda _: True
        )
    assert not refusal.value.retry
    assert not list(exchange.folder.glob("uploads/*/*"))


def test_a_revoked_certificate_and_one_of_another_cloud_get_nothing(exchange, tmp_path):
    url = artifact_of(exchange, tmp_path)
    client = exchange.client("van-1")
    exchange.registry.revoke("van-1")
    with pytest.raises(TransferError, match="403"):
        fetch(client, url, tmp_path / "package.deb")
    foreign = RunningExchange(tmp_path / "other").credentials("van-1")
    ours = exchange.credentials("van-1")
    stranger = type(ours)(ours.ca_file, foreign.certificate_file, foreign.key_file, "localhost")
    with pytest.raises(TransferError):
        fetch(FileClient(lambda: Broker("127.0.0.1", stranger)), url, tmp_path / "package.deb")


def test_without_a_certificate_nobody_gets_in(exchange):
    context = ssl.create_default_context(cafile=exchange.authority.certificate_file)
    connection = http.client.HTTPSConnection("localhost", exchange.port, context=context)

    def ask():
        connection.request("GET", artifact_path(SHA256))
        return connection.getresponse()

    with pytest.raises((OSError, http.client.HTTPException)):
        ask()


def put(exchange, path, headers, body=b""):
    context = vehicle_context(exchange.credentials("van-1"))
    connection = http.client.HTTPSConnection("localhost", exchange.port, context=context)
    connection.putrequest("PUT", path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(body)
    return connection


def test_an_upload_is_bounded_and_tells_its_length(exchange):
    exchange.jobs.add(("van-1", "job-1"))
    path = upload_path("job-1")
    too_large = put(exchange, path, {"Content-Length": str(MAX_UPLOAD_BYTES + 1)})
    assert too_large.getresponse().status == 413
    untold = put(exchange, path, {"Transfer-Encoding": "chunked"}, b"0\r\n\r\n")
    assert untold.getresponse().status == 411


def test_an_upload_that_breaks_off_leaves_nothing(exchange, bundle):
    exchange.jobs.add(("van-1", "job-1"))
    put(exchange, upload_path("job-1"), {"Content-Length": "1000"}, b"half").close()
    exchange.client().upload(
        broker_url(exchange.port, upload_path("job-1")), bundle, progress=lambda _: True
    )
    assert exchange.files.upload("van-1", "job-1").read_bytes() == bundle.read_bytes()


def test_drafts_of_a_killed_cloud_are_removed(tmp_path):
    files = FileStore(tmp_path)
    with files.receive("van-1", "job-1") as file:
        file.write(b"x")
    draft = tmp_path / "uploads" / "van-1" / ".draft.abc"
    draft.write_bytes(b"half")
    files.remove_drafts()
    assert not draft.exists()
    assert files.upload("van-1", "job-1").is_file()


# --- servers of other kinds, e.g. pre-signed URLs of S3 -------------------------------


def whole(handler, *, code=200, content=CONTENT, headers=()):
    handler.send_response(code)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def test_an_https_url_is_fetched_without_the_vehicles_certificate(pki, tmp_path):
    seen = []

    def answer(handler):
        seen.append((handler.path, handler.connection.getpeercert(binary_form=True)))
        whole(handler)

    with https_server(pki, answer) as url:
        fetch(trusting(pki), f"{url}/bucket/key?X-Amz-Signature=abc", tmp_path / "package.deb")
    assert seen == [("/bucket/key?X-Amz-Signature=abc", None)]


def test_a_server_that_breaks_off_is_asked_for_the_rest(pki, tmp_path):
    ranges = []

    def answer(handler):
        asked = handler.headers.get("Range")
        ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        handler.end_headers()
        handler.wfile.write(CONTENT[start : start + 300_000])

    target = tmp_path / "package.deb"
    with https_server(pki, answer) as url:
        for _ in range(2):
            with pytest.raises(TransferError) as broken:
                fetch(trusting(pki), f"{url}/key", target)
            assert broken.value.retry
        fetch(trusting(pki), f"{url}/key", target)
    assert ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_is_fetched_from_anew(pki, tmp_path):
    target = tmp_path / "package.deb"
    target.with_name("package.deb.part").write_bytes(CONTENT[:1000])
    with https_server(pki, whole) as url:
        fetch(trusting(pki), f"{url}/key", target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("code", "retry"), [(403, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_a_refusal_says_whether_to_try_again(pki, tmp_path, code, retry):
    with (
        https_server(pki, lambda handler: whole(handler, code=code, content=b"no\nway")) as url,
        pytest.raises(TransferError, match=f"{code}: no way") as refusal,
    ):
        fetch(trusting(pki), f"{url}/key?X-Amz-Signature=abc", tmp_path / "package.deb")
    assert refusal.value.retry is retry
    assert "Signature" not in str(refusal.value)


def test_more_bytes_than_the_job_says_are_not_taken(pki, tmp_path):
    target = tmp_path / "package.deb"
    with https_server(pki, lambda handler: whole(handler, content=CONTENT * 2)) as url:
        fetch(trusting(pki), f"{url}/key", target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "location",
    ["http://localhost/key", "file:///etc/passwd", "broker://:1/x", "https://a@b/c"],
)
def test_a_redirection_to_anything_but_https_is_refused(pki, tmp_path, location):
    redirect = [("Location", location)]

    def answer(handler):
        whole(handler, code=302, content=b"", headers=redirect)

    with https_server(pki, answer) as url, pytest.raises(TransferError, match="redirects"):
        fetch(trusting(pki), f"{url}/key", tmp_path / "package.deb")


def test_a_few_redirections_are_followed_and_no_more(pki, tmp_path):
    def answer(handler):
        steps = int(handler.path.removeprefix("/"))
        if steps:
            whole(handler, code=307, content=b"", headers=[("Location", f"/{steps - 1}")])
        else:
            whole(handler)

    with https_server(pki, answer) as url:
        fetch(trusting(pki), f"{url}/3", tmp_path / "package.deb")
        with pytest.raises(TransferError, match="redirections"):
            fetch(trusting(pki), f"{url}/4", tmp_path / "other.deb")


def test_a_server_that_the_system_does_not_trust_is_not_asked(pki, tmp_path):
    with (
        https_server(pki, whole) as url,
        pytest.raises(TransferError, match="certificate") as refusal,
    ):
        fetch(FileClient(lambda: None), f"{url}/key", tmp_path / "package.deb")
    assert not refusal.value.retry


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "file:///etc/passwd",
        "ftp://example.com/x",
        "broker://example.com:8884/x",
        "broker:///x",
        "https:///x",
        "https://user:password@example.com/x",
        "https://example.com/a b",
        "https://example.com/\r\nHost: x",
        "https://[::1/x",
        "https://example.com:99999/x",
        "",
        7,
        "https://example.com/" + "x" * 9000,
    ],
)
def test_a_url_that_a_job_may_not_name_is_refused(url):
    with pytest.raises(UrlError) as refusal:
        place_of(url)
    assert "password@" not in str(refusal.value)


def test_the_whole_cloud_serves_files_beside_its_broker(tmp_path):
    with running_cloud(tmp_path / "data") as cloud:
        described = json.loads((tmp_path / "data" / "serve.json").read_text())
        issued = milepost_cloud(
            "certs", "issue", "van-1", "--data", cloud.data_dir, "--out", tmp_path / "id"
        )
        assert issued.returncode == 0, issued.stderr
        source = tmp_path / "source.deb"
        source.write_bytes(CONTENT)
        FileStore(cloud.data_dir).add_artifact(source)
        client = FileClient(lambda: Broker("127.0.0.1", credentials_in(tmp_path / "id")))
        url = broker_url(described["files_port"], artifact_path(SHA256))
        fetch(client, url, tmp_path / "package.deb")
    assert (tmp_path / "package.deb").read_bytes() == CONTENT
