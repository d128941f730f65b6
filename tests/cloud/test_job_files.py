"""Releases and files of jobs, on one machine and in a bucket."""

import base64
import json
import subprocess
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from moto import mock_aws

from agent.jobs.diagnostics import DiagnosticsOperation
from agent.jobs.update import UpdateOperation
from cloud.cli.program import jobs
from cloud.errors import ConfigError, StoreError
from cloud.file_store import FileStore
from cloud.job_files import MAX_PRESIGNED_S, OneMachineFiles, S3Files
from cloud.release import control_fields, make_key, read_release, sign, write_release
from contract.release import ReleaseStatement
from tests.fakes.one_machine import milepost_cloud

CONTROL = """\
Package: {name}
Version: 0.2.0
Architecture: arm64
Maintainer: Milepost <milepost@example.com>
Description: telemetry agent
 More.
"""


def package(folder, *, name="milepost-agent", compression="xz"):
    tree = folder / "tree" / compression / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(CONTROL.format(name=name))
    file = folder / f"{name}-{compression}.deb"
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "--build", tree, file]
    subprocess.run(command, check=True, capture_output=True)
    return file


@pytest.fixture
def key(tmp_path):
    make_key(tmp_path / "key")
    return tmp_path / "key"


@pytest.mark.needs("dpkg-deb")
@pytest.mark.parametrize("compression", ["xz", "gzip"])
def test_what_a_package_says_of_itself_is_signed(tmp_path, key, compression):
    file = package(tmp_path, compression=compression)
    made = sign(file, key / "private.pem", downgrade=True)
    assert (made.version, made.architecture, made.downgrade) == ("0.2.0", "arm64", True)
    statement = ReleaseStatement("milepost-agent", "0.2.0", "arm64", made.sha256, downgrade=True)
    public = load_pem_public_key((key / "public.pem").read_bytes())
    public.verify(base64.b64decode(made.signature), statement.signed_bytes())
    write_release(made, tmp_path / "release.json")
    assert read_release(tmp_path / "release.json", file) == made


@pytest.mark.needs("dpkg-deb")
def test_only_the_agents_package_is_signed(tmp_path, key):
    with pytest.raises(ConfigError, match="sudo"):
        sign(package(tmp_path, name="sudo"), key / "private.pem", downgrade=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4",
        b"!<arch>\n",
        b"!<arch>\n" + b"debian-binary   0           0     0     100644  4         `\n2.0\n",
        b"!<arch>\n" + b"control.tar.gz  0           0     0     100644  4         `\nabcd",
        b"!<arch>\n" + b"control.tar.xz  0           0     0     100644  x         `\nabcd",
        b"!<arch>\n" + b"control.tar.xz  0           0     0     100644  99999999  `\nabcd",
    ],
)
def test_what_is_no_package_is_refused_in_words(tmp_path, content):
    file = tmp_path / "x.deb"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.deb"):
        control_fields(file)


def test_a_key_is_its_owners_alone_and_never_written_over(key):
    assert (key / "private.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="already"):
        make_key(key)


@pytest.mark.needs("dpkg-deb")
def test_a_signature_of_another_file_is_found_out_before_a_job_is_made(tmp_path, key):
    file = package(tmp_path)
    write_release(sign(file, key / "private.pem", downgrade=False), file.with_suffix(".json"))
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match="another file"):
        read_release(file.with_suffix(".json"), file)
    done = milepost_cloud("jobs", "update", "--deb", file, "van-1", "--data", tmp_path)
    assert done.returncode == 2
    assert "release sign" in done.stderr


def test_on_one_machine_the_url_names_the_port_that_serves(tmp_path):
    (tmp_path / "serve.json").write_text('{"files_port": 9999}')
    source = tmp_path / "source"
    source.write_bytes(b"content")
    files = OneMachineFiles(tmp_path)
    url = files.publish(source)
    assert url.startswith("broker://:9999/artifacts/")
    assert FileStore(tmp_path).artifact(url.rpartition("/")[2]).read_bytes() == b"content"
    assert files.upload_url("van-1", "job-1") == "broker://:9999/uploads/job-1"
    assert files.place("van-1", "job-1") == str(tmp_path / "uploads/van-1/job-1.tar.gz")
    (tmp_path / "serve.json").unlink()
    with pytest.raises(ConfigError, match="no cloud serves"):
        OneMachineFiles(tmp_path)
    assert OneMachineFiles(tmp_path, 7777).upload_url("v", "j").startswith("broker://:7777/")


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("s3", region_name="eu-central-1")
        client.create_bucket(
            Bucket="releases", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        yield client


def test_on_aws_the_file_is_in_the_bucket_and_the_url_is_signed_for_it_alone(s3, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"content")
    files = S3Files(s3, "releases")
    url = urlsplit(files.publish(source))
    key = url.path.removeprefix("/releases/").removeprefix("/")
    assert s3.get_object(Bucket="releases", Key=key)["Body"].read() == b"content"
    query = parse_qs(url.query)
    assert url.scheme == "https"
    assert query.keys() & {"X-Amz-Signature", "Signature"}
    assert query.get("X-Amz-Expires", [str(MAX_PRESIGNED_S)]) == [str(MAX_PRESIGNED_S)]
    upload = urlsplit(files.upload_url("van-1", "job-1"))
    assert upload.path.endswith("uploads/van-1/job-1.tar.gz")
    assert files.place("van-1", "job-1") == "s3://releases/uploads/van-1/job-1.tar.gz"


@pytest.mark.needs("dpkg-deb")
def test_on_aws_the_job_carries_the_signature_and_a_url_of_the_bucket(s3, tmp_path, key):
    file = package(tmp_path)
    write_release(sign(file, key / "private.pem", downgrade=False), file.with_suffix(".json"))
    iot = boto3.client("iot", region_name="eu-central-1")
    iot.create_thing(thingName="van-1")
    words = ["update", "--deb", str(file), "van-1", "--aws", "--region", "eu-central-1"]
    jobs.main([*words, "--bucket", "releases"], standalone_mode=False)
    (job,) = iot.list_jobs()["jobs"]
    document = json.loads(iot.get_job_document(jobId=job["jobId"])["document"])
    parameters = document["parameters"]
    assert document["operation"] == "update"
    assert parameters["signature"] == json.loads(file.with_suffix(".json").read_text())["signature"]
    UpdateOperation(tmp_path, None, str).check(parameters)
    jobs.main(
        ["diagnostics", "van-1", "--aws", "--region", "eu-central-1", "--bucket", "releases"],
        standalone_mode=False,
    )
    (asked,) = [one["jobId"] for one in iot.list_jobs()["jobs"] if one["jobId"] != job["jobId"]]
    document = json.loads(iot.get_job_document(jobId=asked)["document"])
    DiagnosticsOperation(tmp_path, tmp_path, None, str).check(document["parameters"])
    assert f"uploads/van-1/{asked}.tar.gz" in document["parameters"]["upload_url"]


def test_a_bucket_that_is_not_there_is_told(s3, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"content")
    with pytest.raises(StoreError, match="nowhere"):
        S3Files(s3, "nowhere").publish(source)


def test_with_aws_a_bucket_has_to_be_named(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    done = milepost_cloud("jobs", "diagnostics", "van-1", "--aws")
    assert (done.returncode, "--bucket" in done.stderr) == (2, True)
    done = milepost_cloud("jobs", "diagnostics", "van-1", "van-2", "--aws", "--bucket", "b")
    assert "one vehicle" in done.stderr


def test_the_release_command_says_what_it_signed(tmp_path, key):
    file = package(tmp_path)
    done = milepost_cloud("release", "sign", file, "--key", key / "private.pem", "--json")
    assert json.loads(done.stdout)["architecture"] == "arm64"
    assert json.loads(file.with_suffix(".json").read_text()) == json.loads(done.stdout)
