"""The clock scenario: a board whose clock says 1970, twice, with a power cut in between.

systemd does not believe that and takes its own release date; the guest is months behind.

The first boot never learns the time: what it created must arrive called ``unsynced``. The
second learns it late, from GPS: what it created before must arrive with its true time.
"""

import time
from datetime import UTC, datetime, timedelta

from contract import TimeQuality
from tests.rigs.board.bench import plain
from tests.rigs.board.disk import Fate
from tests.rigs.board.errors import RigError
from tests.rigs.board.ledger import balance

RTC = "1970-01-01T00:00:00"
DRAIN_S = 300.0
GRACE_S = 2.0
"""As in the power scenario."""

TOLERANCE_S = {"kvm": 0.1, "tcg": 0.5}
"""How wrong a time may be. Emulated, the way from the receiver to the agent takes longer."""


def run(bench, *, deadline_s, blind_s=20.0):
    """The report as plain data."""
    begun_s = time.monotonic()
    faults = []
    bench.boot(sky=False, rtc=RTC)
    bench.machine.wait_ready()
    bench.say(f"no clock, no fix: {blind_s:.0f} s, then the power goes")
    time.sleep(blind_s)
    believed = bench.run("date", "-u", "+%Y-%m-%d").strip()
    bench.cut_power(Fate.TORN, GRACE_S, aim_s=0.0)
    bench.boot(sky=False, rtc=RTC)
    bench.machine.wait_ready()
    bench.say(f"no clock, no fix: {blind_s:.0f} s, then the receiver sees the sky")
    time.sleep(blind_s)
    (this_run,) = (run_id for run_id, one in bench.witness.runs.items() if one.boot == 2)
    blind = list(bench.witness.runs[this_run].created)
    offset_s = bench.witness.runs[this_run].offset_s
    bench.machine.receiver.see_sky()
    try:
        bench.wait_delivered(max(1.0, min(DRAIN_S, deadline_s - (time.monotonic() - begun_s))))
    except RigError as error:
        faults.append(str(error))
    bench.stop_agent()
    bench.machine.power_off()
    # both clocks of this machine in one moment
    now = datetime.now(UTC)  # noqa: TID251  the truth outside the guest
    zero = now - timedelta(seconds=time.monotonic())
    samples = bench.received.samples
    first_runs = {run_id for run_id, one in bench.witness.runs.items() if one.boot == 1}
    lost_time = [sample for (run_id, _), sample in samples.items() if run_id in first_runs]
    guessed = [one for one in lost_time if one.time_quality is not TimeQuality.UNSYNCED]
    if not lost_time:
        faults.append("nothing of the first boot arrived")
    if guessed:
        faults.append(f"{len(guessed)} samples of the boot that never knew the time got one")
    errors = []
    for first, last, not_before_s, not_after_s in blind:
        begin, end = (
            zero + timedelta(seconds=moment + offset_s) for moment in (not_before_s, not_after_s)
        )
        for sequence in range(first, last + 1):
            sample = samples.get((this_run, sequence))
            if sample is None or not not_before_s:
                continue  # an event, or created before the witness had asked for the first time
            if sample.time_quality is not TimeQuality.GPS:
                faults.append(f"sample {sequence} is {sample.time_quality}, not gps")
            early = (begin - sample.timestamp).total_seconds()
            late = (sample.timestamp - end).total_seconds()
            errors.append(late if late > 0 else -max(0.0, early))
    worst_s = max(map(abs, errors), default=0.0)
    if not errors:
        faults.append("no sample of the second boot from before its first fix arrived")
    if worst_s > TOLERANCE_S[bench.machine.accel]:
        faults.append(f"a timestamp is {worst_s:.3f} s wrong")
    found = balance(bench.witness, bench.received, bench.cuts)
    return {
        "scenario": "clock",
        "accelerator": bench.machine.accel,
        "board_believed": believed,
        "unsynced_samples": len(lost_time) - len(guessed),
        "restamped_samples": len(errors),
        "worst_error_s": round(worst_s, 3),
        "balance": plain(found),
        "took_s": round(time.monotonic() - begun_s),
        "faults": [*faults, *found.faults],
    }


def words(report):
    """The report for a person."""
    return [
        f"the board believed in {report['board_believed']}",
        f"{report['unsynced_samples']} samples of the boot that never knew the time: unsynced",
        (
            f"{report['restamped_samples']} samples from before the first fix: at most "
            f"{report['worst_error_s']} s wrong"
        ),
        f"took {report['took_s']} s",
    ]
