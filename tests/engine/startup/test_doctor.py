"""Doctor: what it finds is true, nothing secret is shown, nothing heavy is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from engine.machine.gpus import Gpu
from engine.startup import doctor
from engine.startup.doctor import Check, checks
from tests.support.places import ROOT

Usage = namedtuple("Usage", "total used free")


def find(name: str, home: Path) -> Check:
    (check,) = [check for check in checks(home) if check.name == name]
    return check


def test_every_fault_comes_with_a_remedy_and_nothing_is_written(tmp_path: Path) -> None:
    found = list(checks(tmp_path / "home"))
    assert {"python", "machine", "shared memory", "home"} <= {check.name for check in found}
    assert all(check.remedy for check in found if check.status != "ok")
    assert not (tmp_path / "home").exists()


def test_keys_are_found_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    assert "not set" in find("DEEPSEEK_API_KEY", tmp_path).detail
    (tmp_path / ".env").write_text("DEEPSEEK_API_KEY=sk-secret\n")
    (tmp_path / ".env").chmod(0o644)
    assert find("HF_TOKEN", tmp_path).detail == "set in the environment"
    assert find("DEEPSEEK_API_KEY", tmp_path).detail == f"set in {tmp_path / '.env'}"
    assert find(".env", tmp_path).remedy == f"chmod 600 {tmp_path / '.env'}"
    assert "secret" not in "".join(map(str, checks(tmp_path)))


def test_shared_memory_too_small_for_anything_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, status in ((63 << 20, "fail"), (2 << 30, "warn"), (64 << 30, "ok")):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, free=free: Usage(free, 0, free))
        assert next(c for c in doctor.memory(tmp_path) if c.name == "shared memory").status == status


def test_a_machine_without_shared_memory_is_looked_at_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "shm")
    found = {check.name: check for check in checks(tmp_path)}
    assert (found["shared memory"].status, "home" in found) == ("fail", True)
    assert found["shared memory"].remedy


def test_what_dead_runs_left_in_shared_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path)
    (tmp_path / f"mathrl-live-@{os.getpid()}.0").write_bytes(b"x")
    assert all(
        check.status == "ok" for check in doctor.memory(tmp_path) if "left by dead runs" in check.detail
    )
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    left = tmp_path / f"mathrl-gone-@{dead.stdout.strip()}.0.v3"
    left.write_bytes(b"x")
    (found,) = [check for check in doctor.memory(tmp_path) if "left by dead runs" in check.detail]
    assert found.remedy == f"resume them, or rm {left}"


def test_a_full_disk_is_seen_before_a_run_fills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(1 << 40, 0, 10 << 30))
    assert find("home", tmp_path / "new").status == "ok"
    monkeypatch.setattr(doctor, "visible_gpus", lambda: [Gpu(0, "GPU-a", "H100", 80.0)])
    (home,) = doctor.disk(tmp_path)
    assert (home.status, "10 GiB free" in home.detail) == ("warn", True)


def test_packages_out_of_range_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = ["pydantic<1", "numpy>=1", "nowhere-to-be-found>=3", "vllm==0.32.0; extra == 'gpu'"]
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    found = {check.name: check for check in doctor.versions(tmp_path)}
    assert found["pydantic"].status == "fail"
    assert found["pydantic"].remedy == "pip install 'pydantic<1'"
    assert found["numpy"].status == "ok"
    assert found["nowhere-to-be-found"].detail == "not installed"
    assert found["vllm"].status == "ok"


def test_looking_loads_no_model_library(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from engine.startup.doctor import checks; "
        "list(checks(Path(sys.argv[1]))); "
        "print({'torch', 'transformers', 'vllm', 'datasets', 'openai'} & sys.modules.keys())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "set()", done.stderr
