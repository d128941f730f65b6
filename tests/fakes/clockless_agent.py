"""The agent's process on a board with a wrong clock.

``python -m tests.fakes.clockless_agent CONFIG SYSTEM_OFF_S BOOT_ID``: as ``milepost-agent
run``, with the composition's ``make_clock`` giving a system clock that is off by
SYSTEM_OFF_S and that the kernel does not vouch for. BOOT_ID stands for the kernel's.
"""

import sys
from datetime import timedelta
from pathlib import Path

from agent import compose, config, logs, sd_notify, supervisor
from agent.host import SystemClock, system_utc


def main():
    file, off_s, boot_id = sys.argv[1:]
    settings = config.load(Path(file))
    logs.set_up(settings.log)
    compose.boot_id = lambda: boot_id
    agent = compose.Agent(
        settings,
        make_clock=lambda kept: SystemClock(
            system_utc=lambda: system_utc() + timedelta(seconds=float(off_s)),
            kernel_is_synchronised=lambda: False,
            kept=kept,
        ),
    )
    supervisor.run(
        agent,
        notifier=sd_notify.SystemdNotifier(),
        stop_takes_s=20,
        monotonic_s=agent.clock.monotonic_s,
    )


if __name__ == "__main__":
    main()
