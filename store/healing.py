"""Reading methods that make a damaged store again and answer from the new one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from store.errors import StoreDamaged

ATTEMPTS = 2  # a damaged log first, then the file


class Healer(Protocol):
    """What `healing` needs of the object whose method it wraps."""

    def heal(self, error: StoreDamaged) -> None: ...


_Owner = TypeVar("_Owner", bound=Healer)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def healing(
    method: Callable[Concatenate[_Owner, _Arguments], _Result], /
) -> Callable[Concatenate[_Owner, _Arguments], _Result]:
    """Make `method` repeat itself after a StoreDamaged, once the store has been made again."""

    @wraps(method)
    def healed(owner: _Owner, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        for _ in range(ATTEMPTS):
            try:
                return method(owner, *args, **kwargs)
            except StoreDamaged as error:
                owner.heal(error)
        return method(owner, *args, **kwargs)

    return healed
