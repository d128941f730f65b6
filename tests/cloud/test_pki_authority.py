"""The certificate authority of the one-machine cloud."""

import ipaddress
import json
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud.errors import ConfigError
from cloud.pki import Authority, read_revoked

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pki"


@pytest.fixture
def authority(folder):
    return Authority.open_or_create(folder, NOW)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def load(pem):
    return x509.load_pem_x509_certificate(pem)


def test_keys_and_folder_are_the_owners_alone(authority, folder, tmp_path):
    authority.issue("van-1", NOW).write_to(tmp_path / "out")
    server = authority.server_file([], NOW)
    assert mode(folder) == 0o700
    assert mode(folder / "ca" / "key.pem") == 0o600
    assert mode(server) == 0o600
    assert mode(tmp_path / "out" / "key.pem") == 0o600


def test_an_authority_that_is_there_is_used_and_never_replaced(authority, folder):
    before = (folder / "ca" / "key.pem").read_bytes()
    again = Authority.open_or_create(folder, NOW + timedelta(days=400))
    assert (folder / "ca" / "key.pem").read_bytes() == before
    ca = load(authority.certificate_file.read_bytes())
    load(again.issue("van-1", NOW).certificate_pem).verify_directly_issued_by(ca)


@pytest.mark.parametrize("name", ["key.pem", "certificate.pem"])
def test_a_missing_half_is_an_error_and_nothing_is_made_anew(authority, folder, name):
    (folder / "ca" / name).unlink()
    with pytest.raises(ConfigError) as caught:
        Authority.open_or_create(folder, NOW)
    assert "backup" in caught.value.hint
    assert not (folder / "ca" / name).exists()


def test_a_key_of_another_authority_is_an_error(authority, folder, tmp_path):
    Authority.open_or_create(tmp_path / "other", NOW)
    (folder / "ca" / "key.pem").write_bytes((tmp_path / "other" / "ca" / "key.pem").read_bytes())
    with pytest.raises(ConfigError, match="does not belong"):
        Authority.open_or_create(folder, NOW)


def test_two_creations_at_once_agree_on_one_authority(folder):
    made = []
    barrier = threading.Barrier(4)

    def create():
        barrier.wait()
        made.append(Authority.open_or_create(folder, NOW).issue("van-1", NOW))

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.ca_pem for one in made}) == 1
    ca = load(made[0].ca_pem)
    for one in made:
        load(one.certificate_pem).verify_directly_issued_by(ca)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_vehicles_certificate_says_who_it_is_and_how_long(authority):
    certificate = load(authority.issue("van-1", NOW, days=30).certificate_pem)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "van-1"
    assert certificate.not_valid_after_utc == NOW + timedelta(days=30)
    assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert isinstance(certificate.public_key().curve, ec.SECP256R1)


def test_no_two_certificates_share_a_serial_number_or_a_key(authority):
    made = [load(authority.issue("van-1", NOW).certificate_pem) for _ in range(5)]
    assert len({one.serial_number for one in made}) == 5
    assert len({one.public_key().public_numbers() for one in made}) == 5


def test_nothing_outlives_the_authority(authority):
    late = NOW + timedelta(days=19 * 365)
    certificate = load(authority.issue("van-1", late, days=3650).certificate_pem)
    ca = load(authority.certificate_file.read_bytes())
    assert certificate.not_valid_after_utc == ca.not_valid_after_utc


@pytest.mark.parametrize("vehicle_id", ["", "van 1", "van/1", "+", "#", "ü", "v" * 65])
def test_a_name_that_cannot_be_a_vehicle_is_refused(authority, vehicle_id):
    with pytest.raises(ConfigError):
        authority.issue(vehicle_id, NOW)
    assert authority.issued() == []


@pytest.mark.parametrize("days", [0, -1, 100_000])
def test_a_validity_that_makes_no_sense_is_refused(authority, days):
    with pytest.raises(ConfigError, match="days"):
        authority.issue("van-1", NOW, days=days)


def test_the_server_answers_to_its_names(authority):
    certificate = load(authority.server_file(["garage", "192.0.2.7"], NOW).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "garage"}
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ipaddress.ip_address(text) for text in ("127.0.0.1", "::1", "192.0.2.7")
    }


def test_the_server_keeps_its_certificate_until_it_is_old_or_lacks_a_name(authority):
    first = authority.server_file(["garage"], NOW).read_bytes()
    assert authority.server_file(["garage"], NOW + timedelta(days=1)).read_bytes() == first
    renamed = authority.server_file(["garage", "depot"], NOW).read_bytes()
    assert renamed != first
    late = NOW + timedelta(days=397 - 29)
    assert authority.server_file(["garage", "depot"], late).read_bytes() != renamed


def test_a_server_certificate_of_another_authority_is_replaced(authority, folder, tmp_path):
    other = Authority.open_or_create(tmp_path / "other", NOW).server_file([], NOW)
    (folder / "server.pem").write_bytes(other.read_bytes())
    ca = load(authority.certificate_file.read_bytes())
    load(authority.server_file([], NOW).read_bytes()).verify_directly_issued_by(ca)


def test_openssl_accepts_both_ends(authority, tmp_path):
    authority.issue("van-1", NOW).write_to(tmp_path)
    server = authority.server_file([], NOW)
    at = str(int(NOW.timestamp()))
    for purpose, path in (("sslclient", tmp_path / "certificate.pem"), ("sslserver", server)):
        subprocess.run(
            [
                *("openssl", "verify", "-x509_strict", "-attime", at, "-purpose", purpose),
                *("-CAfile", str(authority.certificate_file), str(path)),
            ],
            check=True,
            capture_output=True,
            timeout=30,
        )


def test_what_was_issued_is_listed_and_no_vehicle_key_is_kept(authority, folder):
    authority.issue("van-2", NOW)
    authority.issue("van-1", NOW)
    listed = authority.issued()
    assert [one.vehicle_id for one in listed] == ["van-1", "van-2"]
    assert all(one.revoked_at is None for one in listed)
    for path in (folder / "issued").iterdir():
        assert b"PRIVATE" not in path.read_bytes()


def test_revoking_a_vehicle_revokes_all_its_certificates_and_later_ones_are_good(authority, folder):
    authority.issue("van-1", NOW)
    authority.issue("van-1", NOW)
    authority.issue("van-2", NOW)
    assert len(authority.revoke("van-1", NOW)) == 2
    authority.issue("van-1", NOW)
    states = [(one.vehicle_id, one.revoked_at is None) for one in authority.issued()]
    assert sorted(states) == [("van-1", False), ("van-1", False), ("van-1", True), ("van-2", True)]
    assert set(read_revoked(folder / "revoked.json").values()) == {NOW.isoformat()}


def test_one_serial_number_can_be_revoked(authority):
    authority.issue("van-1", NOW)
    authority.issue("van-1", NOW)
    serial = authority.issued()[0].serial
    assert [one.serial for one in authority.revoke(serial, NOW)] == [serial]
    assert sum(one.revoked_at is not None for one in authority.issued()) == 1


def test_revoking_twice_keeps_the_first_date(authority):
    authority.issue("van-1", NOW)
    authority.revoke("van-1", NOW)
    (one,) = authority.revoke("van-1", NOW + timedelta(days=1))
    assert one.revoked_at == NOW.isoformat()


def test_revoking_somebody_unknown_is_an_error(authority, folder):
    with pytest.raises(ConfigError, match="no certificate was issued"):
        authority.revoke("van-9", NOW)
    assert not (folder / "revoked.json").exists()


@pytest.mark.parametrize("content", ["not json", "[]"])
def test_a_broken_revocation_list_is_an_error_not_an_empty_list(authority, folder, content):
    authority.issue("van-1", NOW)
    (folder / "revoked.json").write_text(content)
    with pytest.raises(ConfigError, match="revoked"):
        read_revoked(folder / "revoked.json")
    with pytest.raises(ConfigError):
        authority.revoke("van-1", NOW)
    assert (folder / "revoked.json").read_text() == content


def test_revocations_by_several_at_once_are_all_kept(authority, folder):
    for number in range(8):
        authority.issue(f"van-{number}", NOW)
    threads = [
        threading.Thread(target=authority.revoke, args=(f"van-{number}", NOW))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((folder / "revoked.json").read_text())) == 8
