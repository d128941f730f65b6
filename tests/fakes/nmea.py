"""NMEA sentences and logs for tests: a straight drive north from the Main, one epoch a second."""

from functools import reduce

RECORDED = [
    "dev01_munich_drive.nmea",
    "dev02_mtv_f9k_rtk_drive_a.nmea",
    "dev03_reno_tahoe_garmin_drive_a.nmea",
    "dev04_munich_gga_gsa_only.nmea",
    "dev05_quectel_eg25g_nofix.log",
    "dev06_gp320fw_week_rollover.log",
    "dev07_unicore_um621_losefix.log",
]
"""The recorded logs in the folder ``nmea`` of the traces."""


def sentence(body):
    """``$body*checksum``."""
    return f"${body}*{reduce(lambda value, character: value ^ ord(character), body, 0):02X}"


def hhmmss(second):
    """A time of day from seconds since midnight."""
    return f"{second // 3600:02d}{second % 3600 // 60:02d}{second % 60:02d}.00"


def rmc(second, *, minutes=5.1, knots=10.0, track=90.0, date="150125", valid=True, talker="GP"):
    where = f"50{minutes:07.4f},N,00840.9260,E"
    if not valid:
        return sentence(f"{talker}RMC,{hhmmss(second)},V,,,,,,,{date},,,N")
    return sentence(f"{talker}RMC,{hhmmss(second)},A,{where},{knots:.1f},{track:.1f},{date},,,A")


def gga(second, *, minutes=5.1, quality=1, altitude=112.5, hdop=0.9, talker="GP"):
    where = f"50{minutes:07.4f},N,00840.9260,E"
    if quality == 0:
        return sentence(f"{talker}GGA,{hhmmss(second)},,,,,0,00,,,M,,M,,")
    return sentence(
        f"{talker}GGA,{hhmmss(second)},{where},{quality},08,{hdop},{altitude},M,47.9,M,,"
    )


def gsa(mode=3, talker="GP"):
    return sentence(f"{talker}GSA,A,{mode},02,05,,,,,,,,,,,1.8,0.9,1.5")


def gsv(talker="GP"):
    return sentence(f"{talker}GSV,1,1,03,02,40,110,38,05,21,250,30,07,05,300,")


def epoch(second, **options):
    """One epoch as a common receiver sends it."""
    position = {key: options[key] for key in ("minutes",) if key in options}
    return [rmc(second, **options), gga(second, **position), gsa(), gsv()]


def log(lines):
    """Lines as a receiver ends them."""
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def drive(seconds, *, start=43_200):
    """A log of ``seconds`` epochs, each 0.001 minutes of latitude further north."""
    lines = []
    for index in range(seconds):
        lines += epoch(start + index, minutes=5.1 + index / 1000)
    return log(lines)
