"""run.json: files of earlier and later versions, damaged ones, and what is written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.errors import ProfileError
from profiles.load import load, overridden
from profiles.schema import Profile
from store.run_config import ConfigFault, RunConfig, RunInputs, Step, read_config, write_config
from tests.support.fabricated import config
from tests.support.fuzzing import NESTED, fuzz


def written(folder: Path, table: object) -> Path:
    path = folder / "run.json"
    path.write_text(json.dumps(table))
    return path


def content(path: Path) -> dict[str, object]:
    """Return the file's table without its digest."""
    table: dict[str, object] = json.loads(path.read_text())
    assert isinstance(table.pop("digest"), str)
    return table


def test_an_early_file_has_the_defaults_of_the_fields_that_it_lacks(tmp_path: Path) -> None:
    found = read_config(written(tmp_path, {"profile": "demo", "plan": [{"stage": "data"}], "created": 5}))
    assert (found.profile_name, found.plan, found.created) == ("demo", (Step("data", ""),), 5.0)
    assert (found.version, found.name, found.seed, found.changed, found.inputs) == (0, "", 0, {}, None)
    assert (found.model_source, found.template, found.arms) == ("", "", ())


def test_a_file_is_written_back_as_it_was(tmp_path: Path) -> None:
    table = config("r", 5.0) | {
        "inputs": {
            "home": "/h",
            "outside": {"data.source": {"path": "/rows", "files": {"a": "1"}}},
            "keys": {"format": "2", "data": "x"},
        },
        "a field of a later version": {"x": [1]},
    }
    path = written(tmp_path, table)
    write_config(path, read_config(path))
    assert content(path) == table
    write_config(path, read_config(path).replaced(plan=(Step("sft", "sft"),)))
    assert content(path) == table | {"plan": [{"stage": "sft", "arm": "sft"}]}
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "it is not a JSON object"),
        ({"plan": 3}, "plan: "),
        ({"plan": [{"stage": 1}]}, r"plan\.0\.stage: "),
        ({"plan": [{"arm": "sft"}]}, r"plan\.0\.stage: "),
        ({"seed": "1"}, "seed: "),
        ({"seed": True}, "seed: "),
        ({"created": "x"}, "created: "),
        ({"changed": []}, "changed: "),
        ({"inputs": {"outside": 1}}, r"inputs\.outside: "),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, table: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        read_config(written(tmp_path, table))
    assert "\n" not in str(caught.value)


@fuzz(150)
@given(NESTED | st.dictionaries(st.sampled_from(sorted(RunConfig.model_fields)), NESTED, max_size=5))
def test_any_table_is_read_or_refused_in_one_line(table: Any) -> None:
    if not isinstance(table, dict):
        return
    try:
        found = RunConfig.of(table)
    except ConfigFault as fault:
        assert "\n" not in str(fault)
        return
    assert json.dumps(RunConfig.of(found.table()).table()) == json.dumps(found.table())
    assert isinstance(found.seed, int) and all(isinstance(step.stage, str) for step in found.plan)


def test_the_profile_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = RunConfig.of({"run": "r", "profile": load("demo").model_dump(mode="json")})
    calls: list[object] = []
    validate = Profile.model_validate
    monkeypatch.setattr(Profile, "model_validate", lambda table: calls.append(table) or validate(table))
    assert found.valid_profile == found.valid_profile == load("demo")
    assert len(calls) == 2  # `load` validates once too
    assert overridden(found.valid_profile, []) is found.valid_profile
    other = found.replaced(profile=found.profile | {"name": "other"})
    assert (other.valid_profile.name, found.valid_profile.name) == ("other", "demo")


def test_a_profile_of_another_version_is_shown_but_refused() -> None:
    found = RunConfig.of({"run": "r", "profile": {"name": "old", "model": {"source": "m"}, "gone": 1}})
    assert (found.profile_name, found.model_source) == ("old", "m")
    with pytest.raises(ProfileError, match=r"^profile of r: "):
        _ = found.valid_profile


def test_inputs_are_typed() -> None:
    inputs = RunInputs(home="/h", outside={"model.source": {"path": "", "commit": "c", "files": {}}}, keys={})  # type: ignore[dict-item]
    assert inputs.outside["model.source"].commit == "c"
