"""DBC files as they are found in the wild: what is mended, what is left out, what is said."""

import random

import pytest

from agent.errors import DbcError
from agent.sources.dbc.compile import compile_in_process, compile_tables
from agent.sources.dbc.load import load

HEAD = 'VERSION ""\nNS_ :\n\tCM_\n\tVAL_\nBS_:\nBU_: ECU\n'
PACK = """BO_ 256 Pack: 8 ECU
 SG_ Percent : 0|8@1+ (0.5,0) [0|100] "%" ECU
 SG_ Current : 15|16@0- (0.1,-10) [0|0] "A" ECU
"""
OTHER = """BO_ 257 Other: 4 ECU
 SG_ State : 0|3@1+ (1,0) [0|7] "" ECU
"""


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "car.dbc"
    path.write_bytes(text.encode(encoding))
    return path


def read_or_refused(path):
    """Whether it is read, or refused with the one error that names it."""
    try:
        compile_in_process([path], [])
    except DbcError as error:
        return str(path) in error.message
    return True


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (HEAD + "BO_ 258 Bad 8 ECU\n SG_ Gone : 0|8@1+ (1,0) [0|0] ECU\n", 7, "message left out"),
        (HEAD + "BO_ 258 8Bad: 8 ECU\n SG_ Gone : 0|8@1+ (1,0) [0|0] ECU\n", 7, "left out"),
        (HEAD + 'BO_ 1075054137 Bad: 8 ECU\n SG_ G : 0|8@1+ (1,0) [0|0] "" E\n', 7, "no CAN id"),
        (HEAD + PACK + ' SG_ 0_COUNT : 35|4@0+ (1,0) [0|15] "" ECU\n', 10, "left out"),
        (HEAD + PACK + ' SG_ Wide : 35|4@0+ (3;-7) [0|15] "" ECU\n', 10, "left out"),
        (HEAD + PACK + ' SG_ Outside : 60|12@1+ (1,0) [0|15] "" ECU\n', 7, "does not fit"),
        (HEAD + PACK + ' SG_ Outside : 59|12@0+ (1,0) [0|15] "" ECU\n', 7, "does not fit"),
        (HEAD + PACK + ' SG_ Twice : 4|8@1+ (1,0) [0|15] "" ECU\n', 7, "overlapping"),
        (HEAD + PACK + ' SG_ Part : 32|8@1+ (.25,-.5) [0|15] "" ECU\n', 10, "digit"),
        (HEAD + "BO_ 304 Body: 8 ECU\n\nBO_ 13274 Late: 8 ECU\n", 9, "29 bits"),
        (HEAD + PACK + 'VAL_ 256 Missing 0 "Off" ;\n', 10, "no such signal"),
        (HEAD + PACK + 'VAL_ 999 Percent 0 "Off" ;\n', 10, "no such signal"),
        (HEAD + PACK + 'VAL_ 256 Percent 255 "SNA"\nVAL_ 256 Current 1 "One" ;\n', 10, "semicolon"),
        (HEAD + PACK + 'CM_ SG_ 256 "nameless";\n', 10, "comment"),
        (HEAD + PACK + 'CM_ "never closed"\n', 10, "comment"),
        (HEAD + PACK + 'CM_ BO_ 256 "with "quotes" in it";\n', 10, "comment"),
        (HEAD + PACK + "BA_ rubbish\n", 10, "left out"),
        (HEAD + "BO_ 256 Twin: 8 ECU\n\n" + PACK, 9, "has the id of"),
    ],
)
def test_a_fault_is_noted_with_its_line_and_the_rest_is_read(tmp_path, text, line, said):
    path = write(tmp_path, text + "\n" + (OTHER if PACK in text else PACK + OTHER))
    loaded = load(path)
    assert (line, True) in [(note.line, said in note.text) for note in loaded.notes]
    by_name = {message.name: message for message in loaded.messages}
    assert [signal.name for signal in by_name["Other"].signals] == ["State"]
    assert {"Percent", "Current"} <= {signal.name for signal in by_name["Pack"].signals}


def test_what_is_doubtless_is_mended_not_left_out(tmp_path, caplog):
    text = (
        HEAD
        + "BO_ 13274 Late: 8 ECU\n"
        + ' SG_ Level : 0|8@1+ (.25,-.5) [0|15] "" ECU\n'
        + 'VAL_ 13274 Level 7 "High"\nVAL_ 13274 Level 7 "High" ;\n'
    )
    tables = compile_in_process([write(tmp_path, text)], ["Level"])
    level = tables["Level"]
    assert (level.frame_id, level.extended) == (13274, True)
    assert (level.number(4), level.choice(7)) == (0.5, "High")
    assert "line 7: Late: id 0x33da has 29 bits" in caplog.text


def test_a_file_without_faults_is_read_without_a_word(tmp_path, caplog):
    path = write(tmp_path, HEAD + PACK + OTHER + 'CM_ "fine";\n')
    assert load(path).notes == []
    compile_in_process([path], ["State"])
    assert not caplog.records


def test_a_mapped_signal_that_had_to_be_left_out_is_named_with_its_line(tmp_path):
    text = HEAD + PACK + ' SG_ Wide : 35|4@0+ (3;-7) [0|15] "" ECU\n' + OTHER
    path = write(tmp_path, text)
    with pytest.raises(DbcError, match=r"car\.dbc:10: .*left out") as caught:
        compile_in_process([path], ["Pack.Wide"])
    assert "Mend that line" in caught.value.hint


def test_signals_of_a_message_that_had_to_be_left_out_are_named_with_its_line(tmp_path):
    text = HEAD + 'BO_ 258 Bad 8 ECU\n SG_ Gone : 0|8@1+ (1,0) [0|0] "" ECU\n' + OTHER
    path = write(tmp_path, text)
    for name in ("Gone", "Bad.Gone"):
        with pytest.raises(DbcError, match=r"car\.dbc:7: "):
            compile_in_process([path], [name])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_units_are_read_in_the_encodings_that_tools_write(tmp_path, encoding):
    text = HEAD + 'BO_ 256 Pack: 8 ECU\n SG_ T : 0|8@1+ (1,-40) [0|0] "°C" ECU\n'
    tables = compile_in_process([write(tmp_path, text, encoding)], ["T"])
    assert tables["T"].unit == "°C"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_are_counted_whatever_their_ends(tmp_path, end):
    text = (HEAD + PACK + ' SG_ 0_COUNT : 35|4@0+ (1,0) [0|15] "" ECU\n').replace("\n", end)
    assert [note.line for note in load(write(tmp_path, text)).notes] == [10]


@pytest.mark.parametrize(
    "data", [b"", b"\0\1\2" * 500, b"<xml/>", b"BO_ 1", b'CM_ "only a comment";\n']
)
def test_what_is_no_dbc_file_is_refused_in_one_way_only(tmp_path, data):
    path = tmp_path / "car.dbc"
    path.write_bytes(data)
    assert read_or_refused(path)


def test_a_damaged_file_gives_messages_or_one_error(tmp_path):
    rng = random.Random(11)
    whole = (HEAD + PACK + OTHER + 'VAL_ 256 Percent 255 "SNA" ;\nCM_ SG_ 256 Percent "x";\n') * 2
    for _ in range(150):
        data = bytearray(whole.encode())
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 9)] = rng.randbytes(rng.randint(0, 3))
        path = tmp_path / "car.dbc"
        path.write_bytes(data)
        assert read_or_refused(path)


@pytest.mark.needs_traces
def test_the_public_dbc_that_cantools_refuses_decodes_as_its_mended_twin(traces, caplog):
    unfixed = traces / "can/honda_bosch_radarless.unfixed.dbc"
    fixed = traces / "can/honda_bosch_radarless.fixed.dbc"
    messages = load(fixed).messages
    names = [f"{message.name}.{one.name}" for message in messages for one in message.signals]
    assert len(names) > 300
    whole = compile_in_process([fixed], names)
    assert not caplog.records
    assert compile_in_process([unfixed], names) == whole
    assert 'line 211: CM_ SG_ 304 "Seems to be platform-agnostic"' in caplog.text
    assert "LKAS_HUD_A: id 0x33da" in caplog.text


def test_faults_are_logged_once_for_each_file(tmp_path, caplog):
    path = write(tmp_path, HEAD + "BO_ 258 Bad 8 ECU\n" * 20 + OTHER)
    compile_tables([path], ["State"])
    assert len(caplog.records) == 1
    assert f"{path}: read, with faults: line 7: " in caplog.text
    assert "and 15 more" in caplog.text
