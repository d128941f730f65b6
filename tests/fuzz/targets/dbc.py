"""A DBC as found in the wild gives the tables of its signals or DbcError, in bounded memory.

What compiles must then decode any frame of its length, to a number or to nothing.
"""

import re
import tempfile
from pathlib import Path

from agent.errors import DbcError
from agent.sources.dbc.compile import compile_in_process

FOLDER = tempfile.TemporaryDirectory(prefix="milepost-fuzz-")
FILE = Path(FOLDER.name) / "bus.dbc"
SMALL = """VERSION ""
NS_ :
BS_:
BU_: ECU
BO_ 256 Engine: 8 ECU
 SG_ Rpm : 0|16@1+ (0.25,0) [0|16383] "rpm" Vector__XXX
 SG_ Temp : 23|8@0- (1,-40) [-40|215] "C" Vector__XXX
BO_ 2566844926 Pack: 8 ECU
 SG_ Mux M : 0|8@1+ (1,0) [0|255] "" Vector__XXX
 SG_ Cell m1 : 8|32@1- (1,0) [0|0] "V" Vector__XXX
CM_ SG_ 256 Rpm "speed";
VAL_ 256 Temp 0 "off" 1 "on" ;
SIG_VALTYPE_ 2566844926 Cell : 1;
"""
WIDE = """BO_ 1024 Wide: 64 ECU
 SG_ Last : 504|8@1+ (1,0) [0|0] "" E
 SG_ A : 7|3@0+ (0,1e3) [0|0] "" E
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","StandardCAN_FD";
BA_DEF_DEF_ "VFrameFormat" "StandardCAN";
BA_ "VFrameFormat" BO_ 1024 2;
"""
SEEDS = [SMALL.encode(), WIDE.encode(), b'VERSION "x"\n', b"BO_ 1 X: 1 E\n"]
TOKENS = [
    b"BO_ ",
    b" SG_ ",
    b"CM_ ",
    b"VAL_ ",
    b"BA_ ",
    b"SG_MUL_VAL_ ",
    b"SIG_VALTYPE_ ",
    b"|1@1+",
]
LONGEST_BYTES = 1_785
"""Of a message that J1939's transport protocol carries; no longer one can come."""

_SIGNAL = re.compile(r"SG_\s+(\w+)")


def take(data: bytes) -> None:
    FILE.write_bytes(data)
    names = list(dict.fromkeys(_SIGNAL.findall(data.decode("latin-1"))))[:8]
    # together, and where one of them is refused the first ones by themselves
    for some in (names, *([name] for name in names[:2])):
        try:
            tables = compile_in_process([FILE], some)
        except DbcError as error:
            str(error)
            continue
        for table in tables.values():
            assert 0 <= table.field.shift + table.field.length <= 8 * table.message_bytes
            for fill in (b"\x00", b"\x55", b"\xff"):
                number = table.number(
                    table.field.raw(fill * min(table.message_bytes, LONGEST_BYTES))
                )
                # a float on the bus may be NaN; can_frames sees that none goes further
                assert isinstance(number, int | float), table
        if some is names:
            break
