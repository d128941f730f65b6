"""Every DBC file of a folder is read, with cantools' values where cantools reads it too.

For a collection of public ones, which are not ours to copy::

    pip download --no-deps opendbc==0.3.1 && unzip -d opendbc opendbc-*.whl
    MILEPOST_DBC_FOLDER=opendbc .venv/bin/pytest tests/agent/test_dbc_wild.py
"""

import math
import os
import random
from pathlib import Path

import cantools
import pytest

from agent.sources.dbc.compile import message_tables
from agent.sources.dbc.load import load
from agent.sources.dbc.table import selected

FOLDER = os.environ.get("MILEPOST_DBC_FOLDER", "")
FILES = sorted(Path(FOLDER).rglob("*.dbc")) if FOLDER else []


@pytest.mark.skipif(not FILES, reason="MILEPOST_DBC_FOLDER names no folder with DBC files")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_read_and_gives_the_values_of_cantools(path):
    loaded = load(path)
    data = path.read_bytes()
    assert loaded.messages or b"\nBO_ " not in data
    try:
        text = data.decode("utf-8-sig")  # ours takes UTF-8 for what it is
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    try:
        peer = cantools.database.load_string(text, "dbc", strict=False)
    except Exception:  # noqa: BLE001  errors of many kinds; that we read it is all there is
        return
    ours = {
        (message.name, message.frame_id): message_tables(message) for message in loaded.messages
    }
    rng = random.Random(path.name)
    for message in peer.messages:
        payload = rng.randbytes(message.length)
        try:
            expected = message.decode(payload)
        except cantools.database.DecodeError:
            continue  # a page of a multiplexer that the file does not have
        for table in ours[message.name, message.frame_id]:
            if not selected(table.selectors, payload) or table.name not in expected:
                continue
            raw, wanted = table.field.raw(payload), expected[table.name]
            if isinstance(raw, float) and math.isnan(raw):
                continue
            got = table.choice(raw)
            assert str(table.number(raw) if got is None else got) == str(wanted), table
