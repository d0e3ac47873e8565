"""Any text as a profile or an override: a Profile, or one line that names the fault."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from profiles.errors import ProfileError
from profiles.load import load
from profiles.schema import Profile
from tests.support.fuzzing import fuzz
from tests.support.places import ROOT


def fields(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted names of all sections and fields."""
    found = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        found.append(prefix + name)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += fields(inner, f"{prefix}{name}.")
    return found


KEYS = fields(Profile)
TOML_TEXT = ROOT / "profiles" / "demo.toml"
VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.text(max_size=30),
        st.sampled_from(["cpu", "auto", "made", "sft", "grpo", "none", 0, 1, -1, 1e-6, "", "0", "cuda:0"]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


def outcome(text: bytes, overrides: list[str]) -> Profile | str:
    """The profile in a file that holds `text`, or the error's one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(text)
        try:
            return load(str(path), overrides)
        except ProfileError as error:
            return str(error)


def is_right(found: Profile | str) -> bool:
    return isinstance(found, Profile) or bool(found)


@fuzz(100)
@given(
    st.binary(max_size=120) | st.text(max_size=120).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_any_bytes(text: bytes) -> None:
    assert is_right(outcome(text, []))


@fuzz(150)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), VALUES, max_size=4))
def test_any_values(table: dict[str, Any]) -> None:
    nested: dict[str, Any] = {}
    for key, value in table.items():
        *sections, field = key.split(".")
        inner = nested
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                break
        if isinstance(inner, dict):
            inner[field] = value
    assert is_right(outcome(tomli_w.dumps(nested).encode(), []))


@fuzz(150)
@given(
    st.lists(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(KEYS) | st.text(max_size=10),
            st.sampled_from(["=", "", ".=", "..", " = "]),
            st.text(max_size=30) | VALUES.map(str) | st.integers(1, 6000).map(lambda count: "9" * count),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_overrides(overrides: list[str]) -> None:
    assert is_right(outcome(b"", overrides))


@fuzz(40)
@given(st.sampled_from(["[", "{a=", "1", "9", "a.", '"', "[[", "'"]), st.integers(1, 12_000), st.booleans())
def test_any_depth_and_length(part: str, count: int, as_key: bool) -> None:
    text = part * count
    line = f"{text}x = 1" if as_key else f"name = {text}"
    assert is_right(outcome(line.encode(), []))
    assert is_right(outcome(b"", [f"{text}x=1" if as_key else f"sft.steps={text}"]))


@fuzz(60)
@given(st.integers(0, 4000), st.integers(1, 40), st.text(max_size=5))
def test_a_profile_with_a_piece_cut_out_or_put_in(place: int, length: int, text: str) -> None:
    whole = TOML_TEXT.read_text()
    assert is_right(outcome((whole[:place] + text + whole[place + length :]).encode(), []))
