"""The rooms: imports run downwards only, and the console imports no heavy library."""

from __future__ import annotations

import subprocess
import sys

from tests.support.places import ROOT

# scipy is imported at the first call that pools seeds.
HEAVY = ("torch", "transformers", "vllm", "datasets", "lm_eval", "scipy", "openai")


def test_the_import_contracts_hold() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_nothing_that_a_person_sees_loads_a_model_library() -> None:
    script = (
        "import pkgutil, sys, importlib, mathrl_tui\n"
        "for module in pkgutil.walk_packages(mathrl_tui.__path__, 'mathrl_tui.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "import engine.startup.launch, engine.protocol.control, engine.startup.doctor, engine.grading, engine.plan\n"
        "import store.query, store.export\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_module_reads_a_pickle_from_a_disk() -> None:
    unsafe = (
        "pickle.load",
        "import pickle\n",
        "weights_only=False",
        "allow_pickle=True",
        "import dill",
        "import shelve",
    )
    sources = [
        path for room in ("mathrl_tui", "engine", "store", "profiles") for path in (ROOT / room).rglob("*.py")
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in sources}
    assert not [(path, word) for path, text in texts.items() for word in unsafe if word in text]
    reads = [line for text in texts.values() for line in text.splitlines() if "torch.load(" in line]
    assert all("weights_only=True" in line for line in reads)
