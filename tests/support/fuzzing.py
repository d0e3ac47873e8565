"""Settings and strategies of the fuzz tests: the same examples in every run, more with MATHRL_FUZZ_EXAMPLES=N."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("MATHRL_FUZZ_EXAMPLES", "0"))


def fuzz(examples: int) -> settings:
    """`examples` fixed examples without a deadline; MATHRL_FUZZ_EXAMPLES=N: N random ones, kept if they fail."""
    return settings(
        max_examples=EXAMPLES or examples,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damage(draw: Callable[..., int], size: int) -> Callable[[bytes], tuple[bytes, int]]:
    """A damage to `size` bytes: content ↦ (damaged content, first byte that may differ)."""
    place = draw(st.integers(0, max(size - 1, 0)))
    kind = draw(st.sampled_from(("flip", "cut", "zeros", "again", "garbage", "removed")))
    length = draw(st.integers(1, 400))
    bit = draw(st.integers(0, 7))
    noise: bytes = draw(st.binary(min_size=1, max_size=60))  # type: ignore[assignment]

    def apply(content: bytes) -> tuple[bytes, int]:
        end = min(place + length, len(content))
        damaged = {
            "flip": content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :],
            "cut": content[:place],
            "zeros": content[:place] + bytes(end - place) + content[end:],
            "again": content + content[place:],
            "garbage": content[:place] + noise + content[place:],
            "removed": content[:place] + content[end:],
        }[kind]
        return damaged, len(content) if kind == "again" else place

    return apply


# What JSON and TOML can hold, and what can only be typed.
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
)
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
