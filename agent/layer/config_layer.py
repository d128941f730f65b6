"""New settings are tried before they count.

A layer that a job brings goes on trial: the agent is started with it, and when samples have
arrived at the broker the job confirms it. Until then the layer before it is kept, and
returns when

- the agent cannot be started with the new one, for whatever reason (``guard``);
- it was started with it ``MOST_STARTS`` times and nobody confirmed it: it crashes or hangs,
  and the watchdog ends it;
- the job rolls it back, or is no longer at hand to confirm it.

So the worst that wrong settings do is a few restarts. ``[jobs] mode = "off"`` in the file
leaves the file alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent.config import JobsMode
from agent.config.load import AgentSettings, parse, read_table
from agent.errors import AgentError, ConfigError, StateError
from agent.jobs.journal import Journal, Step
from agent.layer import record as records
from agent.layer.merge import Json, fixed_keys, laid_over
from agent.layer.record import Layer, Record

MOST_STARTS: Final = 3
_DROPPED: Final = "they were dropped on the board (milepost-agent config reset)"

_log = logging.getLogger("agent.layer")


class ConfigLayer:
    """The config file and what lies over it; ``begin`` in the process that runs the agent."""

    def __init__(self, config_file: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: as ``agent.config.load``.
        """
        self.path = config_file
        self.table: Json = read_table(config_file)
        self.file = parse(self.table, config_file)
        self._folder = self.file.state.dir
        self.on_trial = False
        """This process runs with settings that are not proven."""

    @property
    def record(self) -> Record:
        """What is kept."""
        return records.load(self._folder)

    @property
    def counts(self) -> bool:
        """Whether the file lets a layer count."""
        return self.file.jobs.mode is JobsMode.ON

    def in_force(self) -> Layer:
        """What lies over the file now; nothing where nothing does."""
        record = self.record
        if not self.counts:
            return Layer()
        return record.layer if record.trial is None else record.trial

    def begin(self) -> AgentSettings:
        """The settings to run with; counts the start of a trial. Raises nothing."""
        record = records.load(self._folder, mends=True)
        if not self.counts:
            return self.file
        if record.trial is not None:
            entry = Journal(self._folder).load()
            if entry is None or (entry.job_id, entry.step) != (record.trial.job_id, Step.RUNNING):
                self.roll_back("its job is no longer at hand")
            elif record.starts >= MOST_STARTS:
                self.roll_back(f"the agent was started {record.starts} times with them in vain")
            else:
                try:
                    records.save(self._folder, replace(record, starts=record.starts + 1))
                    settings = self.preview(record.trial.settings)
                except AgentError as error:
                    self.roll_back(error.message)
                else:
                    _log.info("settings of job %s are on trial", record.trial.job_id)
                    self.on_trial = True
                    return settings
        return self._proven(self.record.layer)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """While settings are on trial, whatever ends this block rolls them back."""
        try:
            yield
        except Exception as error:
            if self.on_trial:
                first_line = str(error).partition("\n")[0]
                self.roll_back(f"the agent does not start with them: {first_line}")
            raise

    def preview(self, settings: Mapping[str, Any]) -> AgentSettings:
        """The file with these laid over it.

        Raises:
            ConfigError: a key may not be laid over, or keys or values are wrong.
        """
        fixed = fixed_keys(settings)
        if fixed:
            raise ConfigError(
                f"{', '.join(fixed[:8])}: cannot be changed from afar",
                hint="Edit the vehicle's config file.",
            )
        return parse(laid_over(self.table, settings), self.path)

    def try_out(self, settings: Mapping[str, Any], job_id: str) -> None:
        """Let these be on trial from the next start on, in place of those that lie there now.

        Raises:
            StateError: it could not be kept; nothing has changed.
        """
        trial = Layer(dict(settings), job_id)
        records.save(self._folder, replace(self.record, trial=trial, starts=0))

    def confirm(self) -> None:
        """What is on trial is proven.

        Raises:
            StateError: it could not be kept; it is on trial still.
        """
        record = self.record
        if record.trial is not None:
            records.save(self._folder, Record(layer=record.trial))
            _log.info("settings of job %s are in force", record.trial.job_id)
        self.on_trial = False

    def roll_back(self, reason: str) -> None:
        """From the next start on the settings before count again."""
        self.on_trial = False
        record = self.record
        if record.trial is None:
            return
        _log.warning("settings of job %s are rolled back: %s", record.trial.job_id, reason)
        try:
            records.save(
                self._folder,
                Record(layer=record.layer, failed_job=record.trial.job_id, failure=reason),
            )
        except StateError as error:
            _log.warning("%s", error)

    def reset(self) -> None:
        """The file alone counts from the next start on; a job that tries settings has failed.

        Raises:
            StateError: it could not be written.
        """
        trial = self.record.trial
        dropped = Record() if trial is None else Record(failed_job=trial.job_id, failure=_DROPPED)
        records.save(self._folder, dropped)

    def account(self) -> dict[str, Any] | None:
        """What lies over the file, for the agent's account; ``None`` where nothing does."""
        layer = self.in_force()
        if not layer.job_id:
            return None
        return {"job_id": layer.job_id, "settings": layer.settings, "on_trial": self.on_trial}

    def _proven(self, layer: Layer) -> AgentSettings:
        try:
            return self.preview(layer.settings) if layer.settings else self.file
        except ConfigError as error:
            # the file was edited since: it is what its owner wants
            _log.warning("settings of job %s do not fit the file: %s", layer.job_id, error.message)
            return self.file
