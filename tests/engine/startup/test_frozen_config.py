"""run.json is checked against its digest, and restored from the journal if it is damaged or missing."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LaunchError
from engine.startup.frozen_config import frozen
from store.home import RunFolder
from store.journal import JournalWriter
from store.records import RunRow
from store.run_config import ConfigFault, RunConfig, read_config, write_config
from tests.support.supervised import make_run


@pytest.fixture(name="run")
def registered_run(tmp_path: Path) -> tuple[RunFolder, RunConfig]:
    """A run whose journal has its registration, and its configuration."""
    folder = make_run(tmp_path)
    config = read_config(folder.config).replaced(folder=str(tmp_path), seed=1234567)
    write_config(folder.config, config)
    with JournalWriter(folder.journal) as writer:
        writer.append([RunRow("fake", "demo", config.seed, config.table(), config.created)])
    return folder, config


def test_every_flipped_bit_is_found_or_changes_nothing(run: tuple[RunFolder, RunConfig]) -> None:
    folder, config = run
    content = folder.config.read_bytes()
    changed = folder.config.with_name("changed.json")

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 8 * len(content) - 1))
    def flip(bit: int) -> None:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        changed.write_bytes(damaged)
        with suppress(ValueError):
            assert read_config(changed).table() == config.table()

    flip()


def test_another_number_in_run_json_is_refused(run: tuple[RunFolder, RunConfig]) -> None:
    folder, _ = run
    folder.config.write_text(folder.config.read_text().replace("1234567", "1234566"))
    with pytest.raises(ConfigFault, match="does not match its digest"):
        read_config(folder.config)


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"plan": 3}', b"\xff"])
def test_run_json_is_restored_from_the_journal(
    run: tuple[RunFolder, RunConfig], content: bytes | None
) -> None:
    folder, config = run
    folder.config.unlink()
    if content is not None:
        folder.config.write_bytes(content)
    lines: list[str] = []
    restored, profile = frozen(folder, lines.append)
    assert restored == config == read_config(folder.config)
    assert profile == config.valid_profile
    (line,) = lines
    assert "restored from the run's journal" in line
    kept = list(folder.path.glob("run.json.damaged-*"))
    assert [path.read_bytes() for path in kept] == ([] if content is None else [content])
    frozen(folder, lines.append)
    assert len(lines) == 1


def test_without_a_registration_nothing_changes(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    folder.config.write_text("{")
    with pytest.raises(LaunchError, match="start a new run"):
        frozen(folder, print)
    assert [path.name for path in folder.path.glob("run.json*")] == ["run.json"]


def test_a_file_without_a_digest_is_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    assert "digest" not in json.loads(folder.config.read_text())
    assert read_config(folder.config).name == "fake"
