"""The vehicle: a guest under QEMU that can be booted, reached, unplugged and cut off its power."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.rigs.board import recipe
from tests.rigs.board.channel import Lines, Receiver, Shell, connect
from tests.rigs.board.disk import Fate, VolatileDisk
from tests.rigs.board.errors import RigError
from tests.rigs.board.nbd import NbdServer
from tests.rigs.board.programs import PATH

MEMORY_MB = 768
BOOT_S = 480.0
"""20 s without KVM on a machine that has nothing else to do; 180 s were seen on a busy one."""

STALL_S = 150.0
"""A boot that says nothing for so long stands still: the emulator does, seldom, and for ever."""

STALLS = 2
"""So often in a run it is switched off and on again. More is a fault of the guest."""

KERNEL_ARGUMENTS = "root=/dev/vda rw net.ifnames=0 panic=-1 loglevel=4 systemd.show_status=false"
"""Besides the console.

On the serial console only the kernel speaks: a lost interrupt there stops whoever else writes.
The journal has a virtio console, hvc0, which needs none.
"""

_QMP_S = 30.0
_STATE_LINES = re.compile(r"^(CPU#|.*(RIP|PC|HLT|paused|running)).*$", re.MULTILINE)


@dataclass(frozen=True)
class BootTimes:
    """Seconds of the guest's clock since its kernel started, and seconds outside."""

    ready_s: float
    outside_s: float


def accelerator(architecture):
    """``kvm`` where the processor is of this architecture and has it, else ``tcg``, emulation.

    /dev/kvm alone says little: some sandboxes have one that opens and never runs a guest.
    """
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    has_it = (
        not architecture.foreign
        and re.search(r"\b(vmx|svm)\b", flags)
        and os.access("/dev/kvm", os.R_OK | os.W_OK)
    )
    return "kvm" if has_it else "tcg"


class Machine:
    """One vehicle with a disk of its own in ``folder``; ``close`` leaves nothing running.

    ``on_witness(line, moment_s)`` gets what the guest's helper says of the agent, with this
    machine's monotonic time, from a thread.
    """

    def __init__(self, image, folder, *, accel, random, on_witness=lambda line, moment_s: None):
        self.image = image
        self.folder = folder
        self.accel = accel
        self._random = random
        self._on_witness = on_witness
        # short: a Unix socket's path has 107 bytes
        self._sockets = Path(tempfile.mkdtemp(prefix="rig-"))
        for file in (image.kernel, image.initrd):
            shutil.copy(file, folder)
        shutil.copy(image.disk, folder / "disk.img")
        self.console = folder / "console.log"
        self._process = None
        self.disk = None
        self._server = None
        self._open = []
        self.boots = 0
        self.stalls = []
        """What QEMU told of itself each time that a boot stood still."""

    def put(self, files):
        """Write ``{path: (bytes, mode, uid, gid)}`` to the guest's disk, before its first boot."""
        commands = []
        for number, (target, (data, mode, uid, gid)) in enumerate(files.items()):
            source = self.folder / f"put-{number}"
            source.write_bytes(data)
            source.chmod(0o600)
            commands += [
                f"write {source} {target}",
                f"sif {target} mode 0100{mode:o}",
                f"sif {target} uid {uid}",
                f"sif {target} gid {gid}",
            ]
        script = self.folder / "debugfs.commands"
        script.write_text("\n".join(commands) + "\n")
        done = subprocess.run(
            ["debugfs", "-w", "-f", str(script), str(self.folder / "disk.img")],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PATH": PATH},
        )
        said = [line for line in done.stderr.splitlines() if not line.startswith("debugfs 1.")]
        if done.returncode or said:
            raise RigError("debugfs: " + "\n".join(said))

    def boot(self, *, link_up=True, sky=True, rtc="utc"):
        """Switch it on; returns at once. ``sky``: the GPS receiver has fixes."""
        self._switched_on_with = {"link_up": link_up, "sky": sky, "rtc": rtc}
        if self.disk is None:
            self.disk = VolatileDisk(self.folder / "disk.img")
            self._server = NbdServer(self.disk, self._sockets / "disk")
        self.boots += 1
        self._switched_on_s = time.monotonic()
        sockets, architecture = self._sockets, self.image.architecture
        for name in ("gps", "control", "witness", "qmp"):
            (sockets / name).unlink(missing_ok=True)
        command = [
            *(architecture.program, *architecture.options),
            *("-accel", self.accel, "-m", str(MEMORY_MB)),
            *("-smp", str(min(2, os.cpu_count() or 1))),
            *("-display", "none", "-no-reboot", "-nodefaults", "-rtc", f"base={rtc}"),
            *("-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd")),
            *("-append", f"console={architecture.console} {KERNEL_ARGUMENTS}"),
            *("-drive", f"file=nbd:unix:{sockets}/disk,format=raw,if=virtio,cache=writeback"),
            *("-chardev", f"file,id=console,path={self.console},append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=gps,path={sockets}/gps,server=on,wait=off"),
            *architecture.gps,
            *("-netdev", "user,id=net0,ipv6=off"),
            # no ROM to boot from the network: it would be one more Debian package
            *("-device", "virtio-net-pci,netdev=net0,id=nic0,romfile="),
            *("-device", "virtio-serial-pci", "-device", "virtio-rng-pci"),
            *("-chardev", f"file,id=journal,path={self.console},append=on"),
            *("-device", "virtconsole,chardev=journal"),
            *("-qmp", f"unix:{sockets}/qmp,server=on,wait=off"),
        ]
        for name in ("control", "witness"):
            command += [
                *("-chardev", f"socket,id={name},path={sockets}/{name},server=on,wait=off"),
                *("-device", f"virtserialport,chardev={name},name=rig.{name}"),
            ]
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        qmp = connect(sockets / "qmp")
        qmp.settimeout(_QMP_S)
        self._qmp = qmp.makefile("rwb", buffering=0)
        self._qmp.readline()
        self._ask_qemu("qmp_capabilities")
        self.set_link(up=link_up)
        self.shell = Shell(sockets / "control")
        witness = Lines(sockets / "witness", self._take_witness, "rig-witness")
        self.receiver = Receiver(sockets / "gps", recipe.DRIVE_NMEA)
        self._open = [self._qmp, self.shell, witness, self.receiver]
        waiter = threading.Thread(target=self._give_sky, args=(self.receiver, self.shell, sky))
        waiter.daemon = True
        waiter.start()

    def wait_up(self, timeout_s=BOOT_S, stall_s=STALL_S):
        """Until the guest takes commands; ``stall_s`` of silence are a boot that stands still."""
        deadline = time.monotonic() + timeout_s
        said, said_s = 0, time.monotonic()
        while not self.shell.up.wait(0.2):
            size, now_s = self.console.stat().st_size, time.monotonic()
            if size != said:
                said, said_s = size, now_s
            elif now_s - said_s > stall_s and len(self.stalls) < STALLS:
                self._switch_off_and_on()
                said_s = time.monotonic()
                deadline = said_s + timeout_s
            self._check_alive(deadline, "the guest's helper")

    def wait_ready(self, timeout_s=BOOT_S):
        """Until systemd has heard READY=1 of the agent. Gives ``BootTimes``."""
        self.wait_up(timeout_s)
        deadline = time.monotonic() + timeout_s
        ask = (
            *("systemctl", "show", "milepost-agent", "--property"),
            "ActiveState,ActiveEnterTimestampMonotonic",
        )
        while True:
            shown = dict(
                line.split("=", 1) for line in self.shell.run(*ask).out.split("\n") if "=" in line
            )
            if shown.get("ActiveState") == "active":
                outside_s = time.monotonic() - self._switched_on_s
                return BootTimes(int(shown["ActiveEnterTimestampMonotonic"]) / 1e6, outside_s)
            self._check_alive(deadline, "the agent")
            time.sleep(0.5)

    def set_link(self, *, up):
        """Plug the network cable in or out."""
        self._ask_qemu("set_link", name="nic0", up=up)

    def cut_power(self, fate=Fate.TORN, *, aim_s=0.0):
        """Disk and QEMU lose their power at once. Gives (moment_s, damage).

        ``aim_s``: wait so long at most for a moment when the disk holds unflushed writes.
        """
        self.disk.darken(aim_s=aim_s)
        moment_s = time.monotonic()
        self._process.kill()
        self._end()
        return moment_s, self.disk.power_cut(fate, self._random)

    def power_off(self):
        """An orderly shutdown; falls back to the power switch after two minutes."""
        with contextlib.suppress(OSError):
            self.shell.send("systemctl", "poweroff")
        try:
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def close(self):
        """Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._end()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self.disk is not None:
            self.disk.close()
        shutil.rmtree(self._sockets, ignore_errors=True)
        for name in ("disk.img", "vmlinuz", "initrd"):
            (self.folder / name).unlink(missing_ok=True)

    def console_tail(self, lines=25):
        """What the guest said last."""
        text = self.console.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _switch_off_and_on(self):
        try:
            self.stalls.append(self._state_of_qemu())
        except (RigError, OSError) as error:
            self.stalls.append(repr(error))
        self._process.kill()
        self._end()
        self.boot(**self._switched_on_with)

    def _state_of_qemu(self):
        """Whether it runs, and where its processors are."""
        told = [
            self._ask_qemu("human-monitor-command", **{"command-line": words})
            for words in ("info status", "info registers -a")
        ]
        return "\n".join(match[0].strip() for match in _STATE_LINES.finditer("\n".join(told)))

    def _end(self):
        self._process.wait(30)
        self._process = None
        for part in self._open:
            part.close()
        self._open = []
        self._server.wait_idle()

    def _check_alive(self, deadline, what):
        if self._process.poll() is not None:
            said = (self.folder / "qemu.log").read_text(errors="replace")[-2000:]
            raise RigError(f"QEMU ended by itself:\n{said}\n{self.console_tail()}")
        if time.monotonic() > deadline:
            raise RigError(f"{what} did not come up; the console's end:\n{self.console_tail()}")

    def _take_witness(self, line):
        moment_s = time.monotonic()
        with contextlib.suppress(ValueError):
            self._on_witness(json.loads(line), moment_s)

    @staticmethod
    def _give_sky(receiver, shell, sky):
        # not before gpsd listens: what QEMU holds for a closed port would come late, and be old
        if shell.up.wait(BOOT_S) and sky:
            receiver.see_sky()

    def _ask_qemu(self, command, **arguments):
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            line = self._qmp.readline()
            if not line:
                raise RigError(f"QEMU's monitor is gone: {command}")
            answer = json.loads(line)
            if "error" in answer:
                raise RigError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
