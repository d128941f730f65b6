"""The agent in a process that dies, as by a power cut, at a chosen write of a job.

``python -m tests.fakes.cut_agent before|after STEP MARK --config FILE``: killed right before
or after the journal is written with that step, or the layer over the config file with
``trial``, ``begun``, ``proven`` or ``rolled back``; once: ``MARK`` is the file that remembers.
"""

import os
import signal
import sys
from pathlib import Path

from agent.cli import cli
from agent.jobs.journal import Journal
from agent.layer import record as records


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

    save_layer = records.save

    def cut_save_layer(folder, record):
        cut("before", moment_of(record))
        save_layer(folder, record)
        cut("after", moment_of(record))

    Journal.save, Journal.remove, records.save = cut_save, cut_remove, cut_save_layer
    cli(["run", *sys.argv[4:]], prog_name="milepost-agent")


def moment_of(record):
    """Which write of the layer this is."""
    if record.trial is not None:
        return "begun" if record.starts else "trial"
    return "rolled back" if record.failed_job else "proven"


if __name__ == "__main__":
    main()
