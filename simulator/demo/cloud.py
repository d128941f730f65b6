"""The one-machine cloud as the demo's child: its commands, nothing of its code."""

from __future__ import annotations

import json
import socket
from collections.abc import Container
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.request import ProxyHandler, build_opener

from simulator.demo.children import Child, python_command, run_to_end
from simulator.demo.errors import DemoError

Json = dict[str, Any]

STOP_GRACE_S: Final = 30.0
ANSWER_TIMEOUT_S: Final = 5.0
_NO_PROXY: Final = build_opener(ProxyHandler({}))
"""The cloud is on this machine, whatever ``http_proxy`` says."""
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudOptions:
    """What ``milepost-cloud serve`` is told."""

    http_port: int
    fleet: Path | None
    areas: Path | None
    tiles: bool


class Cloud:
    """Call order: ``start``, ``poll_ready`` until it is true, then the rest, ``stop``."""

    def __init__(self, data: Path, logs: Path, options: CloudOptions) -> None:
        self.data = data
        self.mqtt_port = 0
        self.http_url = ""
        self._logs = logs
        words = ["serve", "--data", str(data), "--host", HOST, "--mqtt-port", "0"]
        words += ["--http-port", str(options.http_port), "--no-browser"]
        words += ["--tiles" if options.tiles else "--no-tiles"]
        for name, path in (("--fleet", options.fleet), ("--areas", options.areas)):
            if path is not None:
                words += [name, str(path)]
        self.child = Child("the cloud", python_command("cloud", *words), logs / "cloud.log")

    def start(self) -> None:
        """Start serving; from the main thread only."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.child.start()

    def poll_ready(self) -> bool:
        """Whether it serves; then ``mqtt_port`` and ``http_url`` are known.

        Raises:
            DemoError: it ended instead.
        """
        self.child.require_alive()
        try:
            said = json.loads((self.data / "serve.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return False
        if said["pid"] != self.child.pid:
            return False  # left behind by a server that was killed
        self.mqtt_port, self.http_url = int(said["mqtt_port"]), str(said["http_url"])
        return True

    def issue_certificate(self, vehicle_id: str, out: Path) -> None:
        """Write ca.pem, certificate.pem and key.pem of a vehicle.

        Raises:
            DemoError: the command failed.
        """
        run_to_end(
            f"issuing the certificate of {vehicle_id}",
            python_command(
                "cloud", "certs", "issue", vehicle_id, "--data", str(self.data), "--out", str(out)
            ),
            self._logs / "certs.log",
        )

    def report(self) -> Json:
        """What ``milepost-cloud report --json`` prints, while serving or after.

        Raises:
            DemoError: the command failed or printed no JSON.
        """
        report: Json = self._ask("report", "--json")
        return report

    def gaps(self, vehicle_id: str) -> Json:
        """What ``milepost-cloud gaps --json`` says of a vehicle, while serving or after.

        Raises:
            DemoError: the command failed or printed no JSON.
        """
        # 1: something is missing unexplained, which is an answer too
        gaps: Json = self._ask("gaps", "--vehicle", vehicle_id, "--json", good_codes=(0, 1))
        return gaps

    def history(self, vehicle_id: str) -> list[Json]:
        """Every stored message of a vehicle: ``milepost-cloud history --full``.

        Raises:
            DemoError: the command failed or printed no JSON.
        """
        rows: list[Json] = self._ask("history", "--vehicle", vehicle_id, "--full", lines=True)
        return rows

    def _ask(self, *words: str, lines: bool = False, good_codes: Container[int] = (0,)) -> Any:
        command, *rest = words
        log_path = self._logs / f"{command}.log"
        text = run_to_end(
            f"the cloud's {command}",
            python_command("cloud", command, "--data", str(self.data), *rest),
            log_path,
            good_codes=good_codes,
        )
        try:
            return [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
        except json.JSONDecodeError as error:
            raise DemoError(
                f"the cloud's {command} is no JSON: {error}", hint=f"its log is {log_path}"
            ) from error

    def median_latency_ms(self) -> float | None:
        """From a sample's creation to its stored position, or None before the first; live only.

        Raises:
            DemoError: the cloud does not answer.
        """
        try:
            with _NO_PROXY.open(f"{self.http_url}api/figures", timeout=ANSWER_TIMEOUT_S) as answer:
                median_ms: float | None = json.load(answer)["latency_ms"]["p50"]
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            raise DemoError(
                f"the cloud does not say its latency: {error}",
                hint=f"its log is {self.child.log_path}",
            ) from error
        return median_ms

    def stop(self) -> None:
        """End it in order; what it took in is on disk. Idempotent."""
        self.child.stop(STOP_GRACE_S)


def require_free_port(port: int) -> None:
    """See that the map's port can be had; 0 always can.

    Raises:
        DemoError: another program has it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(
                f"port {port} for the map cannot be used: {error.strerror or error}",
                hint="stop the program that has it, or choose another with --port (0: any)",
            ) from error


def is_free_port(port: int) -> bool:
    """Whether ``require_free_port`` passes."""
    try:
        require_free_port(port)
    except DemoError:
        return False
    return True
