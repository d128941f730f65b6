"""Dial the broker as far as it goes: name, TCP, TLS, and MQTT where no agent runs.

A second connection with the vehicle's id would throw the running agent off the broker
(MQTT-3.1.4-2), and another id is refused by the usual policies (decision 0039).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.config import BrokerSettings
from agent.doctor.patience import Call
from agent.doctor.programs import read_text
from agent.doctor.subject import Running, Subject
from agent.errors import IdentityError
from agent.host import boottime_s
from agent.kernel_clock import kernel_is_synchronised
from agent.transport import Credentials
from agent.transport.tls import Failure, explain, make_context
from contract import TimeQuality

STEP_S: Final = 6.0
"""Per layer; a bad mobile link takes 1 s for each round trip."""

VERDICT_S: Final = 1.0
"""In TLS 1.3 the broker judges the vehicle after the handshake: wait so long for its alert."""

_ANY_4: Final = "0" * 8
_ANY_6: Final = "0" * 32


@dataclass(frozen=True, slots=True)
class Facts:
    """How far it came. ``took_s`` is for name, TCP and TLS together."""

    host: str = ""
    port: int = 0
    server_name: str = ""
    credentials: Credentials | None = None
    vehicle_id: str = ""
    running: Running = Running.NO
    agent_connected: bool | None = None
    agent_waiting: int = 0
    has_route: bool = True
    name_error: str = ""
    refused: bool = False
    tcp_error: str = ""
    tls_error: str = ""
    took_s: float = 0.0
    not_tried: str = ""
    """Why no MQTT connection was tried; empty when one was."""
    mqtt_refusal: str = ""
    mqtt_error: str = ""


def dial(subject: Subject, broker: BrokerSettings) -> Facts:
    """Name, TCP, TLS, MQTT, until one of them fails; nothing where the agent is connected."""
    account = subject.account
    facts: dict[str, Any] = {
        "host": broker.host,
        "port": broker.port,
        "server_name": broker.server_name or broker.host,
        "credentials": _credentials(broker),
        "vehicle_id": subject.parts.vehicle_id or "",
        "running": subject.running,
        "agent_connected": account.get("connected") if account else None,
        "agent_waiting": account.get("backlog_messages", 0) if account else 0,
        "has_route": _is_here(broker.host) or _has_route(),
    }
    if facts["agent_connected"]:
        return Facts(**facts)
    started_s = boottime_s()
    facts |= _reach(broker)
    if not any(facts.get(step) for step in ("name_error", "tcp_error", "refused")):
        facts |= _speak_tls(broker, facts["credentials"])
        facts["took_s"] = boottime_s() - started_s
        if not facts.get("tls_error") and not facts.get("not_tried"):
            facts |= _speak_mqtt(broker, subject)
    return Facts(**facts)


def _credentials(broker: BrokerSettings) -> Credentials:
    """Those of the config; before the first provisioning the CA alone."""
    if broker.certificate_file is None:
        return Credentials(broker.ca_file, Path(), None, broker.server_name or broker.host)
    return Credentials.of(broker)


def _is_here(host: str) -> bool:
    """Whether it is this machine, which needs no route."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _has_route() -> bool:
    """Whether there is a default route, or any beside those of the interfaces' own networks."""
    routes = [line.split() for line in (read_text("/proc/net/route") or "").splitlines()[1:]]
    routes6 = [line.split() for line in (read_text("/proc/net/ipv6_route") or "").splitlines()]
    # interface, destination, gateway: 0 is any destination, or no gateway
    by_4 = any(fields[1] == _ANY_4 or fields[2] != _ANY_4 for fields in routes if len(fields) > 2)
    by_6 = any(fields[:2] == [_ANY_6, "00"] and fields[-1] != "lo" for fields in routes6)
    return by_4 or by_6


def _reach(broker: BrokerSettings) -> dict[str, Any]:
    try:
        addresses = Call(
            lambda: socket.getaddrinfo(broker.host, broker.port, type=socket.SOCK_STREAM),
            "doctor-resolve",
        ).result(STEP_S)
    except TimeoutError:
        return {"name_error": "the DNS server does not answer"}
    except OSError as error:
        return {"name_error": error.strerror or str(error)}
    except UnicodeError as error:  # an empty label, or one of more than 63 characters
        return {"name_error": f"it is no name ({error.__cause__ or error})"}
    found: dict[str, Any] = {}
    for family, kind, protocol, _, address in addresses[:4]:
        with socket.socket(family, kind, protocol) as probe:
            probe.settimeout(STEP_S / 2)
            try:
                probe.connect(address)
            except ConnectionRefusedError:
                found = {"refused": True}
            except OSError as error:
                found = {"tcp_error": error.strerror or str(error)}
            else:
                return {}
    return found


def _speak_tls(broker: BrokerSettings, credentials: Credentials) -> dict[str, Any]:
    facts = {}
    if credentials.pkcs11 is not None:
        facts["not_tried"] = "its key is in a token"
    elif credentials.key_file is None:
        facts["not_tried"] = "the vehicle is not provisioned yet"
    try:
        context = make_context(replace(credentials, pkcs11=None))
        with (
            socket.create_connection((broker.host, broker.port), STEP_S) as connection,
            context.wrap_socket(connection) as tls,
        ):
            tls.settimeout(VERDICT_S)
            with contextlib.suppress(TimeoutError):
                tls.recv(1)
    except IdentityError as error:
        if isinstance(error.__cause__, PermissionError):
            return {"not_tried": "this user may not read its key"}
        return {"tls_error": f"{error.message}. {error.hint}"}
    except (OSError, ssl.SSLError) as error:
        misses_certificate = facts and not isinstance(error, ssl.SSLCertVerificationError)
        return facts if misses_certificate else {"tls_error": _explained(error, credentials).reason}
    return facts


def _explained(error: OSError, credentials: Credentials) -> Failure:
    quality = TimeQuality.NTP if kernel_is_synchronised() else TimeQuality.UNSYNCED
    return explain(error, credentials.server_name, quality)


def _speak_mqtt(broker: BrokerSettings, subject: Subject) -> dict[str, Any]:
    if subject.running is Running.YES:
        return {"not_tried": "an agent runs, and a second connection would throw it off"}
    if subject.running is Running.UNKNOWN:
        return {"not_tried": "an agent of another user may run; ask as that user, or with sudo"}
    vehicle_id = subject.parts.vehicle_id
    if vehicle_id is None:
        return {"not_tried": "vehicle.id is missing or cannot be used"}
    from paho.mqtt import client as mqtt  # noqa: PLC0415  only where it is tried
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415  likewise

    answered = threading.Event()
    verdict: dict[str, Any] = {}

    def on_connect(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            verdict["mqtt_refusal"] = str(reason)
        answered.set()

    def on_disconnect(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if not answered.is_set():
            # a broker of AWS closes the connection of a client that its policy does not allow
            verdict["mqtt_refusal"] = f"it closes the connection without an answer ({reason})"
        answered.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, vehicle_id, clean_session=True)
    client.on_connect, client.on_disconnect = on_connect, on_disconnect
    client.tls_set_context(make_context(Credentials.of(broker)))
    client.connect_timeout = STEP_S
    try:
        client.connect(broker.host, broker.port, keepalive=broker.keep_alive_s)
        client.loop_start()
        if not answered.wait(STEP_S):
            verdict["mqtt_error"] = f"no answer to CONNECT in {STEP_S:g} s"
        client.disconnect()
    except (OSError, ValueError) as error:
        verdict["mqtt_error"] = str(error)
    finally:
        client.loop_stop()
    return verdict
