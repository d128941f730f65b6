"""The certificate authority of the one-machine cloud."""

import ipaddress
import json
import stat
import subprocess
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.cli.registry import opened_registry
from cloud.errors import ConfigError, CsrError
from cloud.pki import MAX_CSR_BYTES, Authority, serial_of
from cloud.provisioning.ports import CertificateStatus

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


@pytest.mark.parametrize("vehicle_id", ["", "van 1", "van/1", "+", "#", "ü", "v" * 65, "claim-1"])
def test_a_name_that_cannot_be_a_vehicle_is_refused(authority, vehicle_id):
    with pytest.raises(ConfigError):
        authority.issue(vehicle_id, NOW)


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


def test_no_clients_key_or_certificate_is_kept(authority, folder):
    authority.issue("van-1", NOW)
    authority.issue_claim(NOW)
    authority.issue_provisioned(NOW)
    assert [path.name for path in folder.iterdir()] == ["ca"]


def test_a_claim_certificate_is_for_clients_and_names_no_vehicle(authority):
    certificate = load(authority.issue_claim(NOW, days=7).certificate_pem)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "Milepost claim"
    assert certificate.not_valid_after_utc == NOW + timedelta(days=7)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def csr_pem(key, common_name="van-9", digest=None, extensions=()):
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    request = builder.sign(key, digest or hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_signing_request_gets_a_certificate_for_its_key_alone(authority, kind, tmp_path):
    key = KEYS[kind]()
    asked = csr_pem(key, extensions=[x509.BasicConstraints(ca=True, path_length=None)])
    pem = authority.sign_request(asked, "Milepost vehicle", NOW)
    certificate = load(pem)
    assert certificate.public_key() == key.public_key()
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "Milepost vehicle"
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not basic.ca
    certificate.verify_directly_issued_by(load(authority.certificate_file.read_bytes()))


BAD_KEYS = {
    "a short RSA key": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505  that is the point
    "an exponent of 3": lambda: rsa.generate_private_key(3, 2048),
    "another curve": lambda: ec.generate_private_key(ec.SECP256K1()),
}


@pytest.mark.parametrize("kind", BAD_KEYS)
def test_a_key_of_another_kind_gets_none(authority, kind):
    with pytest.raises(CsrError, match="RSA of 2,048"):
        authority.sign_request(csr_pem(BAD_KEYS[kind]()), "x", NOW)


def test_an_ed25519_key_gets_none(authority):
    key = ed25519.Ed25519PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(CsrError):
        authority.sign_request(pem, "x", NOW)


def test_a_request_that_is_not_signed_by_its_own_key_gets_none(authority):
    """Whoever asks must hold the private key, not just know a public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = bytearray(
        x509.load_pem_x509_csr(csr_pem(key).encode()).public_bytes(serialization.Encoding.DER)
    )
    der[-1] ^= 0x01
    forged = x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    with pytest.raises(CsrError):
        authority.sign_request(forged.decode(), "x", NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----",
        "x" * (MAX_CSR_BYTES + 1),
        "\0" * 100,
        "ü",
    ],
)
def test_what_is_no_request_is_refused(authority, text):
    with pytest.raises(CsrError):
        authority.sign_request(text, "x", NOW)


VALID_CSR = csr_pem(ec.generate_private_key(ec.SECP256R1()))


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(VALID_CSR) - 1), st.characters(codec="utf-8"), st.integers(0, 2))
def test_a_request_that_was_changed_anywhere_is_signed_or_refused_and_nothing_else(
    shared_authority, at, letter, count
):
    text = VALID_CSR[:at] + letter * count + VALID_CSR[at + 1 :]
    try:
        pem = shared_authority.sign_request(text, "x", NOW)
    except CsrError:
        return
    held = x509.load_pem_x509_csr(VALID_CSR.encode()).public_key()
    assert load(pem).public_key() == held


@pytest.fixture(scope="module")
def shared_authority(tmp_path_factory):
    return Authority.open_or_create(tmp_path_factory.mktemp("pki"), NOW)


def earlier_folder(authority, folder, revoked=()):
    """The files of a version before the registry; serial numbers by vehicle."""
    (folder / "issued").mkdir()
    serials = {}
    for vehicle_id in ("van-1", "van-2"):
        certificate = load(authority.issue(vehicle_id, NOW).certificate_pem)
        serials[vehicle_id] = serial_of(certificate)
        path = folder / "issued" / f"{serials[vehicle_id]}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    entries = {serials[one]: {"vehicle_id": one, "revoked_at": "2026-01-01"} for one in revoked}
    if entries:
        (folder / "revoked.json").write_text(json.dumps(entries))
    return serials


def test_what_an_earlier_version_issued_and_revoked_is_taken_over_once(tmp_path):
    authority = Authority.open_or_create(tmp_path / "pki", NOW)
    serials = earlier_folder(authority, tmp_path / "pki", revoked=["van-2"])
    for _ in range(2):
        with opened_registry(tmp_path) as here:
            found = {one.serial: (one.thing, one.status) for one in here.registry.certificates("1")}
        assert found == {
            serials["van-1"]: ("van-1", CertificateStatus.ACTIVE),
            serials["van-2"]: ("van-2", CertificateStatus.REVOKED),
        }
    assert not (tmp_path / "pki" / "issued").exists()
    assert len(list((tmp_path / "pki" / "issued.taken-over").iterdir())) == 2


def test_a_take_over_that_was_cut_short_goes_on_and_keeps_what_changed_since(tmp_path):
    authority = Authority.open_or_create(tmp_path / "pki", NOW)
    earlier_folder(authority, tmp_path / "pki")
    with opened_registry(tmp_path) as here:
        here.registry.revoke("van-1")
    (tmp_path / "pki" / "issued.taken-over").rename(tmp_path / "pki" / "issued")
    with opened_registry(tmp_path) as here:
        states = {one.thing: one.status for one in here.registry.certificates("1")}
    assert states["van-1"] is CertificateStatus.REVOKED
    assert states["van-2"] is CertificateStatus.ACTIVE


@pytest.mark.parametrize("content", ["not json", "[]"])
def test_a_broken_list_of_revoked_certificates_is_an_error_and_nothing_is_put_aside(
    tmp_path, content
):
    authority = Authority.open_or_create(tmp_path / "pki", NOW)
    earlier_folder(authority, tmp_path / "pki")
    (tmp_path / "pki" / "revoked.json").write_text(content)
    with pytest.raises(ConfigError, match="revoked"), opened_registry(tmp_path):
        pass
    assert (tmp_path / "pki" / "revoked.json").read_text() == content
    assert (tmp_path / "pki" / "issued").is_dir()
