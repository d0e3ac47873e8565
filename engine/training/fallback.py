"""Find the newest whole checkpoint of an arm, and set damaged ones aside.

    newest whole?  ── yes ─▶ resume from it
        │ no: renamed to damaged-step_…, reported
        ▼
    the one before it, and so on; none left: training starts from its beginning

    last one of a finished arm damaged ─▶ set aside, mark removed, ArmReopened ─▶ its lost steps are trained again

A file that is missing, or differs from its digest, is damage. A file that this process cannot read
(permissions, a failing or absent disk) is not damage: its content is unknown, so nothing is renamed. A pickle that
could run code is not damage either: it is refused.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from engine.artifacts import digests
from engine.artifacts.arms import standing, step_of, untrainable
from engine.artifacts.digests import DamagedFile
from engine.artifacts.finished import mark_of
from engine.context import ArmReopened, Context, StageFailed
from engine.machine.ranks import broadcast, rank
from engine.training import checkpoint
from engine.training.pickled_state import UnsafePickle, refuse_plain_pickle
from profiles.schema import Arm
from store.events import LogLine
from store.private import sync

ASIDE = "damaged-"


def newest_whole(context: Context, root: Path) -> Path | None:
    """Return the newest whole checkpoint in `root`, or None.

    Set damaged ones aside.
    Every rank must call. If no whole checkpoint is left, training starts from its beginning, with a warning.
    The hours that produced the damaged ones are lost either way, and the same steps give the same arm again.
    A run that stopped here would keep its machine idle until a person looks. The damaged folders are kept.
    Raises: StageFailed, on every rank, if a checkpoint cannot be read or a damaged one cannot be renamed.
    """
    found, failure = broadcast(_newest_whole(context, root) if rank() == 0 else (None, ""))
    if failure:
        raise StageFailed(failure)
    return found


def whole_model(context: Context, arm: Arm) -> tuple[str, int]:
    """Return the final model of `arm` if its files are intact.

    See engine.artifacts.arms.standing.
    A damaged checkpoint of this run is set aside and reported. If it was the arm's last one, the mark that the arm
    is finished is removed. If it was the best one, the best of the others takes its place. Every rank of a
    training stage must call.
    Returns: path and step of the model.
    Raises, on every rank:
        ArmReopened: if the arm, or the one whose model it uses, has to be trained again.
        StageFailed: if the model cannot be read, or is damaged and of another origin.
    """
    found = broadcast(_whole_model(context, arm) if rank() == 0 else _Model())
    if found.reopened:
        raise ArmReopened(found.failure, found.reopened)
    if found.failure:
        raise StageFailed(found.failure)
    return found.location, found.step


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, and return its new path.

    Under the new name it is not taken for a whole one.
    """
    path = folder.with_name(f"{ASIDE}{folder.name}")
    number = 2
    while path.exists():
        path = folder.with_name(f"{ASIDE}{folder.name}-{number}")
        number += 1
    folder.rename(path)
    sync(path.parent)
    return path


def check(folder: Path) -> None:
    """Check every file of a checkpoint.

    A checkpoint of an older version has no digests. Its files are opened, which finds those that were cut
    short.
    Raises: DamagedFile if a file is missing or changed; OSError if one cannot be read; UnsafePickle for a plain pickle.
    """
    checkpoint.score_of(folder)
    if digests.read_list(folder) is not None:
        digests.check(folder)
    elif (folder / checkpoint.trainer_file()).is_file():
        raise DamagedFile(folder / digests.LIST, "the file is missing")
    else:
        _check_form(folder)


def _newest_whole(context: Context, root: Path) -> tuple[Path | None, str]:
    newest: Path | None = None
    lost: list[str] = []
    folder = root
    try:
        for folder in reversed(checkpoint.steps(root)):
            try:
                if newest is None and (fault := untrainable(folder)):
                    return None, fault
                if newest is None:
                    check(folder)
                    newest = folder
                else:
                    checkpoint.score_of(folder)
            except DamagedFile as error:
                lost.append(_set_aside(folder, error))
        checkpoint.choose_best(root)
    except (_Stuck, UnsafePickle) as error:
        return None, str(error)
    except OSError as error:
        return None, _unreadable(folder, error)
    onward = f"step {step_of(newest)}" if newest is not None else "its beginning: no whole checkpoint is left"
    for words in lost:
        _warn(context, f"{words}; training continues from {onward}")
    return newest, ""


@dataclass(frozen=True, slots=True)
class _Model:
    """A whole model, or why it is missing.

    `reopened` names the arm that has to be trained again.
    """

    location: str = ""
    step: int = 0
    failure: str = ""
    reopened: str = ""


def _whole_model(context: Context, arm: Arm) -> _Model:
    while True:
        try:
            location, step = standing(context.folder, context.profile, arm)
        except StageFailed as error:
            return _Model(failure=str(error))
        try:
            digests.check(Path(location), digests.of_model)
        except DamagedFile as error:
            refused = _replaced(context, Path(location), error)
            if refused is not None:
                return refused
        except OSError as error:
            return _Model(failure=_unreadable(Path(location), error))
        else:
            return _Model(location, step)


def _replaced(context: Context, folder: Path, error: DamagedFile) -> _Model | None:
    """Set a damaged checkpoint aside.

    Return None if another one takes its place, else why no model is left.
    """
    owner = folder.parent.name
    if folder.parent != context.folder.checkpoints(owner):
        return _Model(failure=f"{error}; put a whole copy of {folder} in its place")
    mark = mark_of(context.folder, owner)
    is_last = folder == checkpoint.latest(folder.parent)
    try:
        if is_last:
            # First: if this process dies in between, no older checkpoint is taken for the arm's last one.
            mark.unlink(missing_ok=True)
        words = _set_aside(folder, error)
        if not is_last and (fault := _best_of_the_rest(folder.parent)):
            mark.unlink(missing_ok=True)
            is_last, words = True, f"{words}; {fault}"
    except _Stuck as stuck:
        return _Model(failure=str(stuck))
    except OSError as stuck:
        remedy = "make the disk writable, then resume the run"
        return _Model(failure=f"{error}, and it cannot be set aside ({stuck.strerror}); {remedy}")
    if not is_last:
        _warn(context, f"{words}; the best other checkpoint of arm {owner} takes its place")
        return None
    words = f"{words}; the lost steps of arm {owner} are trained again"
    _warn(context, words)
    return _Model(failure=words, reopened=owner)


def _best_of_the_rest(root: Path) -> str:
    """Point `best` to the highest remaining score.

    Returns: the fault if a score is damaged.
    """
    try:
        checkpoint.choose_best(root)
    except DamagedFile as error:
        return str(error)
    return ""


class _Stuck(Exception):
    """A damaged checkpoint cannot be renamed."""


def _set_aside(folder: Path, error: DamagedFile) -> str:
    try:
        aside = set_aside(folder)
    except OSError as fault:
        raise _Stuck(
            f"{error}, and {folder} cannot be renamed ({fault.strerror}); make the disk writable, "
            "then resume the run: it continues from the checkpoint before it"
        ) from fault
    return f"{error}; that checkpoint is now {aside.name}"


def _unreadable(folder: Path, error: OSError) -> str:
    return (
        f"{error.filename or folder} cannot be read: {error.strerror or error}; the checkpoint is not known to be "
        "damaged: fix the permissions or the disk, then resume the run"
    )


def _warn(context: Context, message: str) -> None:
    arm = context.arm.name if context.arm is not None else ""
    context.emit(LogLine("warning").event(message, context.stage, arm))


def _check_form(folder: Path) -> None:
    for name in (checkpoint.older_trainer_file(), "config.json"):
        if not (folder / name).is_file():
            raise DamagedFile(folder / name, "the file is missing")
    if not any(folder.glob("*.safetensors")):
        raise DamagedFile(folder / checkpoint.WEIGHTS, "the file is missing")
    for path in sorted(folder.iterdir()):
        with path.open("rb"):
            # An OSError here does not mean that the content is damaged.
            pass
        if path.suffix == ".pt":
            refuse_plain_pickle(path)
        try:
            _open(path)
        except (ValueError, EOFError, SafetensorError, zipfile.BadZipFile, zlib.error) as error:
            raise DamagedFile(path, f"it cannot be opened ({error})") from error


def _open(path: Path) -> None:
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt"):
            pass
    elif path.suffix == ".pt":
        with zipfile.ZipFile(path) as archive:
            if (name := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{name} differs from its checksum")
