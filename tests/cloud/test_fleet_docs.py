"""What docs/fleet.md says is so."""

import re

from click.testing import CliRunner

from cloud.cli import cli
from cloud.pki import MAX_CSR_BYTES
from cloud.pki.authority import CLAIM_DAYS, VEHICLE_DAYS
from cloud.pki.csr import CURVES, MAX_RSA_BITS, MIN_RSA_BITS
from cloud.provisioning import requests
from cloud.provisioning.allow_list import OPTIONAL, REQUIRED
from cloud.provisioning.ports import CertificateStatus
from cloud.provisioning.settlement import GIVEN_UP_AFTER
from cloud.serve.broker import MAX_CLAIM_CONNECTIONS
from cloud.serve.device_services import MAX_IN_FLIGHT
from cloud.stores.requested_certificates import MAX_UNREGISTERED
from contract.provisioning import BY_CLAIM, CLAIM_CLIENT_PREFIX, ROTATION, TOKEN_LIFE_S
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "fleet.md").read_text()


def test_every_command_that_it_names_exists_with_its_options():
    named = re.findall(r"fleet ((?:claim |allow )?[a-z]+)\b([^`|\n#]*)", TEXT)
    commands = {words for words, _ in named}
    assert commands >= {"claim create", "claim revoke", "allow add", "allow import", "allow remove"}
    assert commands >= {"list", "describe", "block", "unblock", "revoke", "rotate"}
    for words, rest in named:
        told = CliRunner().invoke(cli, ["fleet", *words.split(), "--help"])
        assert told.exit_code == 0, words
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in told.output, (words, option)


def test_the_figures_are_those_in_force():
    assert ",".join((*REQUIRED, OPTIONAL)) in TEXT
    assert (CLAIM_DAYS, VEHICLE_DAYS) == (90, 365)
    assert "valid for 365 days" in TEXT
    assert (MIN_RSA_BITS, MAX_RSA_BITS, MAX_CSR_BYTES) == (2048, 4096, 8192)
    assert len(CURVES) == 3
    assert (MAX_IN_FLIGHT, MAX_UNREGISTERED, MAX_CLAIM_CONNECTIONS) == (10, 1000, 200)
    assert GIVEN_UP_AFTER.total_seconds() == 2 * 3600
    assert TOKEN_LIFE_S == 3600
    for name in (BY_CLAIM, ROTATION, CLAIM_CLIENT_PREFIX, *CertificateStatus):
        assert f"`{name}`" in TEXT


def test_the_error_codes_are_those_that_are_sent():
    errors = [
        requests.invalid_payload(""),
        requests.invalid_csr(""),
        requests.invalid_token(),
        requests.access_denied(""),
        requests.throttled(""),
        requests.internal_failure(),
    ]
    for error in errors:
        assert f"`{error.code}`" in TEXT
        assert f"({int(error.status)})" in TEXT
