"""A board whose keys are made in a PKCS#11 token (SoftHSM), driven by real processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from agent.identity import IdentityStore
from tests.conftest import ROOT

PIN = "4321"
LABELS = """
import json, sys, pkcs11
token = pkcs11.lib(sys.argv[1]).get_token(token_label="van")
with token.open(user_pin=sys.argv[2]) as session:
    private = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}
    keys = [[key.label, bool(key[pkcs11.Attribute.EXTRACTABLE])]
            for key in session.get_objects(private)]
print(json.dumps(sorted(keys)))
"""


class TokenBoard:
    """A config whose keys are in SoftHSM, and the commands of the agent with it."""

    def __init__(self, folder, port, pki, run_dir=None):
        self.folder, self.port = folder, port
        self.run_dir = run_dir or folder / "run"
        self.claim = pki.vehicle("claim")
        self.module = next(Path("/usr/lib").rglob("libsofthsm2.so"))
        (folder / "tokens").mkdir()
        hsm = folder / "softhsm2.conf"
        hsm.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
        self.environment = {**os.environ, "SOFTHSM2_CONF": str(hsm)}
        new = ["--init-token", "--free", "--label", "van", "--so-pin", "1234", "--pin", PIN]
        self._run("softhsm2-util", *new, check=True)
        self.pin_file = folder / "pin"
        self.pin_file.write_text(PIN)
        self.pin_file.chmod(0o600)
        self.store = IdentityStore(folder / "state")
        self.config = folder / "agent.toml"
        self.write_config()

    def write_config(self, *, module=None, label="van"):
        self.config.write_text(f"""
[state]
dir = "state"
runtime_dir = "{self.run_dir}"
[gps]
source = "none"
[broker]
host = "localhost"
port = {self.port}
ca_file = "{self.claim.ca_file}"
transport = "awscrt"
[broker.pkcs11]
module_file = "{module or self.module}"
token_label = "{label}"
key_label = "vehicle-key"
pin_file = "pin"
[provision]
claim_certificate_file = "{self.claim.certificate_file}"
claim_key_file = "{self.claim.key_file}"
parameters = {{ SerialNumber = "serial-1" }}
""")

    def _run(self, *words, check=False):
        return subprocess.run(
            words,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=90,
            check=check,
            env=self.environment,
        )

    def provision(self, *options, killed_at=None):
        program = ["-m", "agent"]
        if killed_at:
            program = ["-m", "tests.fakes.killed_provisioning", killed_at, "--"]
        words = ("provision", "--config", str(self.config), *options)
        return self._run(sys.executable, *program, *words)

    def private_keys(self):
        done = self._run(sys.executable, "-c", LABELS, str(self.module), PIN, check=True)
        return json.loads(done.stdout)

    def log(self):
        return (self.folder / "agent.log").read_text()

    def start_agent(self):
        with (self.folder / "agent.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
                cwd=ROOT,
                stderr=log,
                env=self.environment,
            )
