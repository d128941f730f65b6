"""The agent in a process that dies, as by a power cut, at a chosen write of the jobs' journal.

``python -m tests.fakes.cut_agent before|after STEP MARK --config FILE``: killed right before
or after the journal is written with that step, once; ``MARK`` is the file that remembers it.
"""

import os
import signal
import sys
from pathlib import Path

from agent.cli import cli
from agent.jobs.journal import Journal


def main():
    """Run the agent until the cut."""
    when, step, mark = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    save, remove = Journal.save, Journal.remove

    def cut(moment, at):
        if (moment, at) == (when, step) and not mark.exists():
            mark.write_text("cut\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def cut_save(journal, entry):
        cut("before", entry.step.value)
        save(journal, entry)
        cut("after", entry.step.value)

    def cut_remove(journal, entry):
        cut("before", "removed")
        remove(journal, entry)
        cut("after", "removed")

    Journal.save, Journal.remove = cut_save, cut_remove
    cli(["run", *sys.argv[4:]], prog_name="milepost-agent")


if __name__ == "__main__":
    main()
