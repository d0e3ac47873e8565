"""The frozen configuration of a run that is resumed, restored if damaged.

    run.json ─▶ whole? ─ yes ─▶ configuration and profile
                  └─ no ─▶ set aside ─▶ registration in the journal ─▶ run.json

The journal holds each registration of a run with its whole configuration. Restored inputs may be those of an
earlier path of the home; the resume then locates them by content, as for any home that was moved.
"""

from __future__ import annotations

from engine.errors import LaunchError
from engine.startup.model_check import ReportProgress
from profiles.errors import ProfileError
from profiles.schema import Profile
from store import journal
from store.batches import JournalVersion
from store.home import RunFolder
from store.private import set_aside
from store.records import RunRow
from store.run_config import ConfigFault, RunConfig, read_config, write_config

# Fields without which a run cannot be resumed. Files of the first versions may lack them.
NEEDED = frozenset({"profile", "plan", "stages", "folder", "seed"})


def frozen(folder: RunFolder, report_progress: ReportProgress) -> tuple[RunConfig, Profile]:
    """Return the configuration and profile of a run without a supervisor.

    Args:
        report_progress: receives one line if run.json was damaged and has been restored.
    Raises: LaunchError if this version cannot resume the run; OSError if run.json cannot be read or restored.
    """
    try:
        config = read_config(folder.config)
    except FileNotFoundError:
        known = "`mathrl-tui runs` lists them"
        config = _registered(folder, f"run {folder.run_id}: no such run in {folder.home}; {known}")
        write_config(folder.config, config)
        report_progress(f"{folder.config}: was missing; restored from the run's journal")
    except ValueError as error:
        config = _registered(folder, f"{folder.config}: {error}; start a new run")
        aside = set_aside(folder.config)
        write_config(folder.config, config)
        kept = "" if aside is None else f", old file: {aside.name}"
        report_progress(f"{folder.config}: {error}; restored from the run's journal{kept}")
    try:
        profile = config.valid_profile
    except ProfileError as error:
        raise LaunchError(f"{error}; start a new run with this version") from None
    if lacking := NEEDED - config.model_fields_set:
        raise LaunchError(f"{folder.config}: it has no field {min(lacking)!r}; start a new run")
    return config, profile


def _registered(folder: RunFolder, otherwise: str) -> RunConfig:
    """Return the newest usable configuration in the run's journal.

    Raises: LaunchError with the message `otherwise` if it is missing.
    """
    try:
        records, _ = journal.read(folder.journal)
    except JournalVersion as error:
        raise LaunchError(str(error)) from None
    for row in reversed([record for record in records if isinstance(record, RunRow)]):
        try:
            config = RunConfig.of(row.config)
        except ConfigFault:
            continue
        if config.model_fields_set >= NEEDED:
            return config
    raise LaunchError(otherwise)
