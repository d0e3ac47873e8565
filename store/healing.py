"""Decorator for reads that rebuild a damaged store and retry."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from store.errors import StoreDamaged

# The first attempt may find a damaged log, the second a damaged file.
ATTEMPTS = 2


class Healer(Protocol):
    """Interface that `healing` needs from the owner of the wrapped method."""

    def heal(self, error: StoreDamaged) -> None:
        """Rebuild the damaged store; do nothing if another process has done so."""


_Owner = TypeVar("_Owner", bound=Healer)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def healing(
    method: Callable[Concatenate[_Owner, _Arguments], _Result], /
) -> Callable[Concatenate[_Owner, _Arguments], _Result]:
    """Decorate `method`: after a StoreDamaged, rebuild the store and retry.

    If it still fails after ATTEMPTS rebuilds, the error is raised.
    """

    @wraps(method)
    def healed(owner: _Owner, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for _ in range(ATTEMPTS):
            try:
                return method(owner, *args, **kwargs)
            except StoreDamaged as error:
                owner.heal(error)
        return method(owner, *args, **kwargs)

    return healed
