"""The agent's errors.

::

    AgentError             anything the agent raises on purpose
    ├── ConfigError        the config names a key that nobody knows, or a value that
    │   │                  cannot be; e.g. ``gps.port = "2947"``
    │   └── DbcError       a DBC file cannot be read, or lacks a mapped signal
    ├── StateError         the state or runtime directory cannot be used, e.g. a second
    │                      agent runs on it, or the disk is mounted read-only
    ├── IdentityError      a certificate or key is missing, unreadable, expired or foreign
    ├── ControlError       the running agent could not be asked, e.g. none is running
    └── SourceError        a source is gone for now, e.g. the CAN interface is down; its
        │                  thread waits and tries again, the rest of the agent goes on
        └── GpsLostError   a receiver is (``agent.sources.gps.faults``); says the cause

An error that an operator sees carries a ``hint``: what to do next, as one sentence.
"""

from __future__ import annotations


class AgentError(Exception):
    """Base of the agent's errors; ``hint`` says what to do next, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(AgentError):
    """The config cannot be used, e.g. ``broker.port`` is 70000; names file, key and value."""


class DbcError(ConfigError):
    """A DBC file is missing, broken or lacks a signal that ``can.signals`` maps."""


class StateError(AgentError):
    """A directory that the agent writes to cannot be used, e.g. it is read-only."""


class IdentityError(AgentError):
    """The vehicle's certificate cannot be used, e.g. it expired or was not signed by the CA."""


class ControlError(AgentError):
    """The running agent did not answer on its control socket, e.g. none is running."""


class SourceError(AgentError):
    """A source failed for now, e.g. the CAN interface is down; it is tried again."""
