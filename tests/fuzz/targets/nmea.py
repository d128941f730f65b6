"""A GPS serial line never raises; a fix is on Earth, in the contract's ranges, of one second.

Each line is given twice: as it is, and between a $ and its right checksum, which no search
would find.
"""

import re

from agent.sources.nmea.frames import ubx_message
from agent.sources.nmea.parser import MAX_SENTENCE_BYTES, checksum
from agent.sources.nmea.stream import NmeaStream
from contract import Location
from tests.fakes import nmea

SEEDS = [
    nmea.drive(2),
    nmea.log([nmea.gga(43_200), nmea.sentence("GPZDA,120000.00,15,01,2025,00,00")]),
    nmea.log([nmea.sentence("GNGNS,120001.00,5005.1,N,00840.9,E,AAN,09,1.2,42.2,32.0,,,V")]),
    nmea.log([nmea.sentence("GPGST,120001.00,15,,,,0.3,0.4,0.5"), nmea.gsa(mode=2)]),
    nmea.log([nmea.sentence("GPVTG,090.0,T,,M,010.0,N,018.5,K,A"), nmea.rmc(1, valid=False)]),
    nmea.log([nmea.sentence("GPGLL,5005.1,N,00840.9,E,120001,A,A")])
    + ubx_message(b"\x0a\x04", b"ROM SPG 5.10")
    + nmea.log([nmea.sentence("GNTXT,01,01,02,ANTSTATUS=OPEN")]),
]
TOKENS = [b"$GPRMC,", b"$GNGGA,", b"NaN", b"inf", b"1e999", b"_", b"*00", b"\xb5\x62", b"235960"]


def take(data: bytes) -> None:
    stream = NmeaStream("/dev/ttyS0")
    for number, line in enumerate(data.split(b"\n")):
        body = re.sub(rb"[^ -#%-)+-~]", b"", line).partition(b"*")[0][:MAX_SENTENCE_BYTES]
        sound = b"$%b*%02X\r\n" % (body, checksum(body))
        received = [*stream.feed(line + b"\n", number), *stream.feed(sound, number)]
        if number % 8 == 7:
            received.append(stream.pause())
        for fix in (item.fix for item in received if item is not None):
            Location(
                lat=fix.lat,
                lon=fix.lon,
                altitude=fix.altitude_m,
                accuracy=fix.accuracy_m,
                fix_time=fix.time,
                fix_mode=fix.mode,
                satellites=fix.satellites,
                hdop=fix.hdop,
            )
            assert fix.time is None or 1979 <= fix.time.year <= 2100
            assert fix.speed_kmh is None or 0 <= fix.speed_kmh <= 2_001
            assert fix.heading is None or 0 <= fix.heading <= 360
    assert len(stream._framer._rest) <= 1_100
