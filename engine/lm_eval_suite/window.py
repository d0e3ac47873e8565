"""The window of suite tasks: how many tokens of a text they read at once.

It does not depend on the hardware's limit. A window of N tokens reads N and predicts N, as lm-eval's Hugging
Face model does with `max_length=N`. A model with fewer positions shortens it. hardware.max_model_len never
does: a run on hardware that cannot hold the window is rejected.
"""

from __future__ import annotations

from engine.model_folder import FolderFault, located
from engine.model_folder.lengths import POSITIONS
from profiles.schema import Profile

# vLLM reads the last predicted token as well and needs room for one new token.
SPARE = 2


def effective(window: int, positions: int) -> int:
    """Return how many tokens a model with `positions` positions can read.

    It is `window` or less, and the same for every generator.
    """
    return min(window, positions - SPARE)


def fault(profile: Profile) -> str:
    """Return the error if suite windows exceed the model length; "" if not.

    It compares `eval.window` with `hardware.max_model_len`, both in tokens. A model with fewer positions than
    `eval.window` only needs its number of positions.
    """
    window, longest = profile.eval.window, profile.hardware.max_model_len
    if longest >= window:
        return ""
    needed = min(window, _positions(profile) or window)
    if longest >= needed:
        return ""
    return (
        f"eval.window: suite tasks read {needed} tokens at once, but hardware.max_model_len is {longest}; "
        f"--set hardware.max_model_len={needed} or --set eval.window={longest}"
    )


def _positions(profile: Profile) -> int | None:
    """Return the number of positions of the profile's model.

    None means that it is unknown until the model is downloaded.
    """
    try:
        folder = located(profile.model.source, profile.model.revision)
    except FolderFault:
        return None
    if folder is None or not folder.has("config.json"):
        return None
    return next((count for name in POSITIONS if (count := folder.count(name)) is not None), None)
