"""A board for the updater: real dpkg on a folder of its own, real packages, no systemd.

A service manager of 40 lines stands in for systemd, which no container has.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.transfer.client import digest_of
from agent.updater.board import PACKAGE, Board
from contract.release import ReleaseStatement

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=False
).stdout.strip()

# systemctl restart|show|daemon-reload; its unit is an agent of a package below the root
SYSTEMCTL = """\
#!{python}
import os, signal, subprocess, sys, time
from pathlib import Path
root, runtime = Path({root!r}), Path({runtime!r})
pid_file, agent = runtime / "pid", root / "opt/milepost/bin/agent"

def pid():
    try:
        number = int(pid_file.read_text())
        os.kill(number, 0)
        # a zombie of a test's process is no running service
        return number if "\\nState:\\tZ" not in Path(f"/proc/{{number}}/status").read_text() else 0
    except (OSError, ValueError):
        return 0

command = sys.argv[1]
if command == "restart":
    if number := pid():
        os.kill(number, signal.SIGTERM)
        while pid() == number:
            time.sleep(0.005)
    (runtime / "health.json").unlink(missing_ok=True)
    started = subprocess.Popen([str(agent), str(runtime)], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pid_file.write_text(str(started.pid))
elif command == "show":
    state = ("active", "running") if pid() else ("failed", "failed")
    print(f"ActiveState={{state[0]}}\\nSubState={{state[1]}}\\nNRestarts=0")
"""

# the agent of a package: a shell script, so that it starts in milliseconds
WELL = """\
#!/bin/sh
read up rest < /proc/uptime
printf '{"boot_id": "%s", "run_id": "%s", "acknowledged_s": %s9}' \\
  "$(cat /proc/sys/kernel/random/boot_id)" $$ "$up" > "$1/health.json.new"
mv "$1/health.json.new" "$1/health.json"
echo VERSION > "$1/runs"
exec sleep 300
"""
OFFLINE = '#!/bin/sh\necho VERSION > "$1/runs"\nexec sleep 300\n'
DIES = "#!/bin/sh\nexit 1\n"


class UpdateBoard:
    """``dpkg`` of this machine with ``--root``; only for root."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root"
        self.runtime = folder / "run"
        dpkg = self.root / "var" / "lib" / "dpkg"
        for name in ("info", "updates", "triggers"):
            (dpkg / name).mkdir(parents=True)
        for name in ("status", "available"):
            (dpkg / name).touch()
        (self.root / "var" / "log").mkdir()
        self.runtime.mkdir()
        systemctl = folder / "systemctl"
        systemctl.write_text(
            SYSTEMCTL.format(python=sys.executable, root=str(self.root), runtime=str(self.runtime))
        )
        systemctl.chmod(0o755)
        self.board = Board(
            home=folder / "home",
            inbox=folder / "inbox",
            keys=folder / "keys",
            health_mark=self.runtime / "health.json",
            root=self.root,
            dpkg=("dpkg", f"--root={self.root}", "--force-script-chrootless"),
            dpkg_query=("dpkg-query", f"--admindir={dpkg}"),
            systemctl=(str(systemctl),),
            settle_s=0.02,
            started_s=5,
            poll_s=0.01,
        )
        self.board.keys.mkdir()
        self.board.inbox.mkdir()
        self.key = Ed25519PrivateKey.generate()
        self.trust(self.key)

    def trust(self, key, name="release"):
        pem = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        path = self.board.keys / f"{name}.pem"
        path.write_bytes(pem)
        path.chmod(0o644)
        return path

    def package(self, version, agent=WELL, *, name=PACKAGE, scripts=(), architecture=None):
        """A small package; its file."""
        tree = self.folder / f"tree-{version}"
        binary = tree / "opt" / "milepost" / "bin" / "agent"
        binary.parent.mkdir(parents=True)
        binary.write_text(agent.replace("VERSION", version))
        binary.chmod(0o755)
        (binary.parent / "milepost-agent").symlink_to("agent")
        config = tree / "etc" / "milepost" / "presets.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f"# as of {version}\n")
        control = tree / "DEBIAN"
        control.mkdir()
        (control / "control").write_text(
            textwrap.dedent(f"""\
            Package: {name}
            Version: {version}
            Architecture: {architecture or ARCHITECTURE}
            Maintainer: Milepost <milepost@example.com>
            Installed-Size: 20
            Description: telemetry agent
             More than a line.
            """)
        )
        (control / "conffiles").write_text("/etc/milepost/presets.toml\n")
        for script, text in dict(scripts).items():
            (control / script).write_text("#!/bin/sh\nset -e\n" + text)
            (control / script).chmod(0o755)
        file = self.folder / f"{name}_{version}.deb"
        command = ["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", tree, file]
        subprocess.run(command, check=True, capture_output=True)
        return file

    def install(self, file):
        """As the installer did at the bench."""
        subprocess.run([*self.board.dpkg, "--install", str(file)], check=True, capture_output=True)
        self.systemctl("restart")

    def systemctl(self, *arguments):
        subprocess.run([*self.board.systemctl, *arguments, "unit"], check=True, timeout=30)

    def sign(self, file, version, *, key=None, architecture=ARCHITECTURE, downgrade=False):
        statement = ReleaseStatement(PACKAGE, version, architecture, digest_of(file), downgrade)
        signature = (key or self.key).sign(statement.signed_bytes())
        return base64.b64encode(signature).decode()

    def request(self, file, version, *, job_id="job-1", downgrade=False, **signing):
        """Leave a request as the agent does."""
        signature = self.sign(file, version, downgrade=downgrade, **signing)
        (self.board.inbox / "package.deb").write_bytes(file.read_bytes())
        request = {
            "job_id": job_id,
            "version": version,
            "signature": signature,
            "downgrade": downgrade,
            "health_timeout_s": 30,
        }
        (self.board.inbox / "request.json").write_text(json.dumps(request))

    def result(self):
        return json.loads((self.board.inbox / "result.json").read_text())

    def installed(self):
        """What dpkg says: state and version."""
        done = subprocess.run(
            [
                *(*self.board.dpkg_query, "--show"),
                *("--showformat=${db:Status-Abbrev}${Version}", PACKAGE),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def runs(self):
        """The version whose agent runs now; ``None`` when none does."""
        try:
            os.kill(int((self.runtime / "pid").read_text()), 0)
            return (self.runtime / "runs").read_text().strip()
        except (OSError, ValueError):
            return None

    def end(self):
        with suppress(OSError, ValueError):
            os.kill(int((self.runtime / "pid").read_text()), signal.SIGKILL)
