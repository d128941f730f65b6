"""A vehicle's key and certificate, judged before anything is dialled."""

import pytest

from agent.errors import IdentityError
from agent.transport import Credentials, certificate_name
from tests.fakes.pki import Pki


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


def credentials(identity, **changes):
    files = {name: getattr(identity, name) for name in ("ca_file", "certificate_file", "key_file")}
    return Credentials(**{**files, **changes}, server_name="localhost")


def test_the_certificate_tells_whose_it_is(pki):
    assert certificate_name(credentials(pki.vehicle("van-7"))) == "van-7"


def test_a_certificate_of_a_ca_that_is_not_the_brokers_tells_it_too(pki, tmp_path):
    (tmp_path / "other").mkdir()
    other = Pki(tmp_path / "other")
    assert certificate_name(credentials(pki.vehicle("van-7"), ca_file=other.ca_file)) == "van-7"


def test_a_key_of_another_certificate_is_refused(pki):
    other = pki.vehicle("van-8").key_file
    with pytest.raises(IdentityError, match="cannot be used together"):
        certificate_name(credentials(pki.vehicle("van-7"), key_file=other))


@pytest.mark.parametrize(
    ("days", "reason"), [((-5, -1), "certificate has expired"), ((1, 5), "not yet valid")]
)
def test_a_certificate_that_is_not_valid_now_is_refused(pki, days, reason):
    with pytest.raises(IdentityError, match=reason):
        certificate_name(credentials(pki.vehicle("van-7", valid_days=days)))


def test_a_certificate_of_a_server_is_refused(pki):
    with pytest.raises(IdentityError, match="purpose"):
        certificate_name(credentials(pki.broker()))
