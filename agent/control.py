"""Ask a running agent how it is, or tell it to do something, over its control socket.

The other end is :mod:`agent.control_server`.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from agent.account import imbalance
from agent.cli_common import config_option, fail
from agent.control_server import SOCKET_NAME, TIMEOUT_S
from agent.errors import AgentError, ControlError


def ask(runtime_dir: Path) -> dict[str, Any]:
    """The account of the running agent.

    Raises:
        ControlError: nobody answers; says what to do.
    """
    return _exchange(runtime_dir, b"")


def tell(runtime_dir: Path, command: str, **arguments: Any) -> dict[str, Any]:
    """Give the running agent a command; its answer.

    Raises:
        ControlError: nobody answers, or the agent refuses; says what to do.
    """
    line = json.dumps({"command": command, **arguments}).encode() + b"\n"
    answer = _exchange(runtime_dir, line)
    if "error" in answer:
        raise ControlError(str(answer["error"]), hint=str(answer.get("hint", "")))
    return answer


def _exchange(runtime_dir: Path, request: bytes) -> dict[str, Any]:
    path = runtime_dir / SOCKET_NAME
    pieces = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                pieces.append(piece)
        answer: object = json.loads(b"".join(pieces))
        if not isinstance(answer, dict):
            raise TypeError("its answer is no JSON object")  # noqa: TRY301  told below, too
    except PermissionError as error:
        raise ControlError(
            f"may not ask the agent on {path}", hint="Run this as the agent's user or as root."
        ) from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ControlError(
            f"no agent runs: nobody listens on {path}",
            hint="Start it with: milepost-agent run --config FILE",
        ) from error
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise ControlError(
            f"the agent did not answer on {path}: {error}", hint="Look into its log."
        ) from error
    return answer


def readable(account: dict[str, Any]) -> str:
    """The account for a person, one fact a line."""
    dropped = ", ".join(f"{n} {reason}" for reason, n in account["dropped_messages"].items())
    created = account.get("samples_created", 0) + account.get("events_created", 0)
    left = account.get("inherited_messages", 0)
    inherited = f", and {left} left by earlier runs" if left else ""
    settled = sum(
        account.get(f"{kind}_acknowledged", 0) for kind in ("samples", "events", "inherited")
    )
    interval_s = account.get("sample_interval_s")
    lines = [
        ("vehicle", f"{account['vehicle_id']}, run {account['run_id']}"),
        ("connection", "connected" if account["connected"] else "not connected"),
        (
            "mode",
            f"{account.get('mode') or 'unknown'}"
            + (f", a sample every {interval_s:g} s" if interval_s else "")
            + (
                f"; the {account['limited_by']} budget keeps it from {account['wanted_mode']}"
                if account.get("limited_by")
                else ""
            ),
        ),
        ("created", f"{created} messages{inherited}"),
        ("acknowledged", f"{settled} messages"),
        ("waiting", f"{account['backlog_messages']} messages"),
        ("dropped", dropped or "none"),
    ]
    lost = imbalance(account) if "inherited_messages" in account else 0
    if lost:
        lines.append(("UNACCOUNTED", f"{lost} messages are in none of these: see the log"))
    if "time_quality" in account:
        waits = ", messages wait for GPS or NTP" if account.get("waits_for_time") else ""
        lines.append(("time", f"{account['time_quality']}{waits}"))
    if "fixes_received" in account:
        rejected = account.get("fixes_rejected", {})
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
        text = f"{account['fixes_received']} fixes, {sum(rejected.values())} rejected"
        lines.append(("GPS", f"{text} ({reasons})" if reasons else text))
    lines.extend((f"CAN {bus['channel']}", _bus_line(bus)) for bus in account.get("can", []))
    lines.extend(
        (
            f"OBD {bus['channel']}",
            f"{bus['answered']} of {bus['requests']} requests answered; {bus['state']}, "
            + bus["reason"],
        )
        for bus in account.get("obd", [])
    )
    lines.extend(
        (
            f"J1939 {bus['channel']}",
            f"{bus['frames']} frames; faults told by {len(bus['telling_faults'])} ECU(s)",
        )
        for bus in account.get("j1939", [])
    )
    lines.extend(("FAULT", _fault_line(fault)) for fault in account.get("faults", []))
    lines.append(("published", f"{account['bytes_published']} bytes"))
    if account.get("flash_bytes_written") is not None:
        lines.append(("flash", f"{account['flash_bytes_written']} bytes written"))
    if account.get("identity"):
        lines.extend(identity_lines(account["identity"]))
    if account.get("shadow"):
        lines.append(("settings", shadow_line(account["shadow"])))
    if account.get("config_layer"):
        lines.append(("settings", layer_line(account["config_layer"])))
    if account.get("jobs"):
        lines.append(("job", job_line(account["jobs"])))
    if "budgets" in account:
        lines.extend(budget_lines(account["budgets"]))
    lines.append(("up", f"{account['uptime_s']:.0f} s, version {account['software_version']}"))
    return "\n".join(f"{name:<13}{value}" for name, value in lines)


def _bus_line(bus: dict[str, Any]) -> str:
    line = f"{bus['state']}, {bus['frames']} frames, {bus['decoded']} decoded"
    lost = bus["dropped"] + bus["kernel_dropped"] + bus["controller_overflows"]
    return line + (f", {lost} lost" if lost else "")


def _fault_line(fault: dict[str, Any]) -> str:
    reason = f": {fault['reason']}" if fault["reason"] else ""
    return f"{fault['code'].removeprefix('source:')} for {fault['lasts_s']:.0f} s{reason}"


def identity_lines(identity: dict[str, Any]) -> list[tuple[str, str]]:
    """The certificate in use and its rotation, for a person."""
    until, due = identity["valid_until"], identity["rotation_due_at"]
    text = f"certificate {identity['certificate_id'][:12]}, since {identity['obtained_at'][:10]}"
    text += f", valid until {until[:10]}" if until else ""
    text += f", rotated from {due[:10]} on" if due else ""
    lines = [("identity", text)]
    last = identity["last_rotation"]
    if identity["rotating_because"]:
        step = identity["step"] or "waits for a connection"
        lines.append(("rotation", f"{step}; {identity['rotating_because']}"))
    elif last and not last["succeeded"]:
        lines.append(("ROTATION", f"failed on {last['ended_at'][:10]}: {last['reason']}"))
    return lines


def shadow_line(shadow: dict[str, Any]) -> str:
    """Where the settings come from, for a person."""
    if shadow["unavailable"]:
        return f"of the config file; no shadow: {shadow['unavailable']}"
    keys = sum(1 for _ in _leaves(shadow["changed"]))
    text = "of the config file"
    if keys:
        text += f", {keys} of them changed by the shadow's version {shadow['version']}"
    if shadow["refused"]:
        text += f"; refused: {'; '.join(shadow['refused'].values())}"
    return text


def layer_line(layer: dict[str, Any]) -> str:
    """What a job has laid over the config file, for a person."""
    keys = sum(1 for _ in _leaves(layer["settings"]))
    trial = " on trial" if layer["on_trial"] else ""
    return f"{keys} laid over the file by job {layer['job_id']}{trial} (milepost-agent config show)"


def job_line(jobs: dict[str, Any]) -> str:
    """The job at hand, else the last one, for a person."""
    if jobs["unavailable"]:
        return f"none can come: {jobs['unavailable']}"
    job = jobs["current"] or jobs["last"]
    if job is None:
        return "none yet"
    told = ", ".join(f"{key}: {value}" for key, value in job["details"].items())
    name = f"{job['operation'] or 'unknown'} ({job['job_id']})"
    text = f"{name} {job['status'].lower().replace('_', ' ')}" + (f", {told}" if told else "")
    return text if jobs["current"] else f"none; the last was {text}"


def _leaves(tree: dict[str, Any]) -> Iterator[Any]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


def budget_lines(budgets: dict[str, Any]) -> list[tuple[str, str]]:
    """What each budget has used of its day, for a person."""
    lines = []
    for name, of in (("data", "of mobile data"), ("flash", "written to flash")):
        used, cap = budgets[name]["used_bytes"], budgets[name]["cap_bytes"]
        text = "not measured here" if used is None else f"{used / 1e6:.3f} MB {of} this day"
        if used is not None and cap:
            text += f", {100 * used / cap:.0f} % of {cap / 1e6:g} MB: {budgets[name]['stage']}"
        lines.append((f"{name} budget", text))
    return lines


@click.command(
    epilog="\b\nExamples:\n  milepost-agent status --config agent.toml\n"
    "  milepost-agent status --config agent.toml --json",
)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON.")
def status(config_file: Path, *, as_json: bool) -> None:
    """Ask the running agent how it is."""
    from agent.config.load import load  # noqa: PLC0415  the running agent imports this module

    try:
        account = ask(load(config_file).state.runtime_dir)
    except AgentError as error:
        fail(error)
    click.echo(json.dumps(account, indent=2) if as_json else readable(account))
