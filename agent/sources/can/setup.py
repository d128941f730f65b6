"""From a ``[[can]]`` section to its signal map: DBC files read, units checked."""

from __future__ import annotations

import logging

from agent.config import CanSettings
from agent.sources.can.signal_map import SignalMap, references
from agent.sources.can.units import refuse_or_tell
from agent.sources.dbc.compile import compile_tables

_log = logging.getLogger(__name__)


def load_signal_map(bus: CanSettings) -> SignalMap:
    """Compile the DBC files and tie the mapped signals to them; doubts go to the log.

    Raises:
        DbcError: a DBC file cannot be used, or lacks a mapped signal.
        ConfigError: a signal's unit is not its field's.
    """
    tables = compile_tables(bus.dbc, references(bus))
    for field, entries in bus.signals.items():
        for entry in entries:
            warning = refuse_or_tell(field, entry, tables[entry.signal])
            if warning is not None:
                _log.warning("%s", warning)
    return SignalMap(bus, tables)
