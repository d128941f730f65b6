"""The broker, one layer after the other: name, TCP, TLS, MQTT; or what the agent says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from agent.doctor.broker_dial import Facts, dial
from agent.doctor.finding import Finding, Kind, Severity
from agent.doctor.subject import Subject

SLOW_S: Final = 5.0

NO_CONFIG: Final = Kind(
    "broker-not-checked", Severity.INFO, "not checked: [broker] is missing or cannot be used"
)
NO_NETWORK: Final = Kind(
    "broker-no-network",
    Severity.ERROR,
    "this board has no route to the network: neither Ethernet, Wi-Fi nor a modem is connected",
    "ip -brief address && ip route && nmcli device",
    "Samples wait in the outbox meanwhile; nothing is lost.",
)
NO_NAME: Final = Kind(
    "broker-no-name",
    Severity.ERROR,
    "the broker's name {host} cannot be resolved: {reason}",
    "getent hosts {host}; cat /etc/resolv.conf",
    "Correct broker.host, or the DNS server that the network gives.",
)
REFUSED: Final = Kind(
    "broker-refused",
    Severity.ERROR,
    "nothing listens at {host}:{port}",
    "sudo ss -ltn 'sport = :{port}'",
    "Run that on the broker's machine; start the broker, or correct broker.port.",
)
UNREACHABLE: Final = Kind(
    "broker-unreachable",
    Severity.ERROR,
    "{host}:{port} does not answer: {reason}",
    "ping -c 3 {host}; timeout 5 bash -c 'exec 3<>/dev/tcp/$0/$1' {host} {port} && echo open",
    "A firewall between may block the port; AWS IoT Core needs 8883 outgoing.",
)
TLS: Final = Kind(
    "broker-tls",
    Severity.ERROR,
    "TLS with {host}:{port}: {reason}",
    "openssl s_client -connect {host}:{port} -servername {name} -CAfile {ca} -cert {cert} "
    "-key {key} </dev/null",
)
CLIENT_REFUSED: Final = Kind(
    "broker-client-refused",
    Severity.ERROR,
    "the broker does not let {vehicle_id} connect: {reason}",
    "milepost-cloud certs list",
    "On AWS IoT Core: the certificate must be active, have a policy that allows iot:Connect, and "
    "be attached to the thing of that name.",
)
MQTT_SILENT: Final = Kind(
    "broker-mqtt-silent",
    Severity.ERROR,
    "{host}:{port} speaks TLS, but not MQTT: {reason}",
    "openssl s_client -connect {host}:{port} -servername {name} -CAfile {ca} -cert {cert} "
    "-key {key} </dev/null",
    "broker.port may be that of another service; MQTT over TLS is 8883 as a rule.",
)
AGENT_OFFLINE: Final = Kind(
    "broker-agent-offline",
    Severity.WARNING,
    "the broker can be reached, but the running agent is not connected ({waiting} messages wait)",
    "journalctl -u milepost-agent -n 50 --no-pager",
    "It tries again by itself; after a refusal only every few minutes.",
)
SLOW: Final = Kind(
    "broker-slow",
    Severity.INFO,
    "the way to the broker is slow: {took_s:.1f} s for name, TCP and TLS",
    "ping -c 10 {host}",
)
KEY_NOT_SHOWN: Final = Kind(
    "broker-identity-not-tried",
    Severity.INFO,
    "{host}:{port} is there; whether it takes this vehicle was not tried: {why}",
)
CONNECTED: Final = Kind(
    "broker-agent-connected", Severity.OK, "the running agent is connected to {host}:{port}"
)
GOOD: Final = Kind(
    "broker-good", Severity.OK, "{host}:{port} accepts {vehicle_id} ({took_s:.1f} s)"
)


def gather(subject: Subject) -> Facts | None:
    """Dial as far as it goes; ``None`` without ``[broker]``."""
    broker = subject.parts.broker
    return None if broker is None else dial(subject, broker)


def check(facts: Facts | None) -> Iterator[Finding]:
    """Findings of the broker."""
    if facts is None:
        yield NO_CONFIG()
        return
    where: dict[str, Any] = {"host": facts.host, "port": facts.port}
    if facts.agent_connected:
        yield CONNECTED(**where)
        return
    blocked = _blocked(facts, where)
    if blocked is not None:
        yield blocked
        return
    if facts.took_s > SLOW_S:
        yield SLOW(host=facts.host, took_s=facts.took_s)
    if facts.agent_connected is False:
        yield AGENT_OFFLINE(waiting=facts.agent_waiting)
    elif facts.not_tried:
        yield KEY_NOT_SHOWN(**where, why=facts.not_tried)
    else:
        yield GOOD(**where, vehicle_id=facts.vehicle_id, took_s=facts.took_s)


def _blocked(facts: Facts, where: dict[str, Any]) -> Finding | None:
    """The lowest layer that fails."""
    if (facts.name_error or facts.tcp_error) and not facts.has_route:
        return NO_NETWORK()
    if facts.name_error:
        return NO_NAME(host=facts.host, reason=facts.name_error)
    if facts.refused:
        return REFUSED(**where)
    if facts.tcp_error:
        return UNREACHABLE(**where, reason=facts.tcp_error)
    files = {
        "name": facts.server_name,
        "ca": facts.credentials.ca_file if facts.credentials else "",
        "cert": facts.credentials.certificate_file if facts.credentials else "",
        "key": (facts.credentials.key_file if facts.credentials else None) or "",
    }
    if facts.tls_error:
        return TLS(**where, **files, reason=facts.tls_error)
    if facts.mqtt_refusal:
        return CLIENT_REFUSED(vehicle_id=facts.vehicle_id, reason=facts.mqtt_refusal)
    if facts.mqtt_error:
        return MQTT_SILENT(**where, **files, reason=facts.mqtt_error)
    return None
