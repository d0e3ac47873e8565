"""`bench`: training, generation and weight synchronisation on the GPUs.

The figures are printed next to known ones. engine.bench measures in separate processes. So this process needs
no torch, and if one part fails the figures of the other are printed before the error.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from mathrl_tui.commands.errors import CommandFailed, WrongInput
from mathrl_tui.commands.options import AsJson
from mathrl_tui.commands.printing import print_json
from store import isolated

# Figures of a Qwen2.5-Math-1.5B-shaped model, with their dates and commands in LOG.md.
KNOWN = {
    "SFT, tokens/s": "51,167 (H100); 52,433 (H200)",
    "SFT, MFU": "0.49 (H100); 0.50 (H200)",
    "generation, tokens/s": "22,900 to 26,300 (H100); 33,000 to 35,200 (H200)",
    "hand-over, trainer held, s": "0.060",
    "hand-over, new weights served after, s": "0.10 to 0.21",
}


def bench(
    tiny: Annotated[
        bool, typer.Option(help="a toy model on the CPU: tests that the benchmark runs, measures nothing")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure training, generation and weight synchronisation on the GPUs.

    Prints the figures of this machine next to known figures.
    """
    from engine.machine.gpus import visible_gpus

    gpus = visible_gpus()
    if not gpus and not tiny:
        raise WrongInput("bench: this machine has no GPU; --tiny shows the machinery on the CPU")
    with tempfile.TemporaryDirectory(prefix="mathrl-bench-") as folder:
        trained, train_fault = _measure(
            "engine.bench.train", Path(folder) / "train.json", _train_options(tiny)
        )
        generated, generate_fault = _measure(
            "engine.bench.generate", Path(folder) / "generate.json", _worker_options(tiny, len(gpus))
        )
    figures = _figures(trained, generated)
    if as_json:
        print_json({"figures": figures, "known": {} if tiny else KNOWN})
    else:
        for name, value in figures.items():
            beside = "" if tiny else f"   known: {KNOWN[name]}"
            print(f"{name:<40} {value:>12,.3f}{beside}")
    if faults := [fault for fault in (train_fault, generate_fault) if fault]:
        raise CommandFailed(f"bench: {'; '.join(faults)}")


def _train_options(tiny: bool) -> list[str]:
    return ["--tiny", "--device", "cpu"] if tiny else []


def _worker_options(tiny: bool, gpus: int) -> list[str]:
    if tiny:
        cpu = ["--tiny", "--trainer", "cpu", "--worker", "cpu", "--generator", "transformers"]
        return [*cpu, "--sequences", "32", "--new-tokens", "32"]
    return ["--worker", "cuda:1" if gpus > 1 else "cuda:0"]


def _measure(module: str, out: Path, options: list[str]) -> tuple[dict[str, Any], str]:
    """Return what a benchmark measured, and its error.

    The error is empty if it succeeded.
    """
    done = subprocess.run(
        isolated.command(module, "--out", str(out), *options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=isolated.environment(),
    )
    measured: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    if done.returncode == 0:
        return measured, ""
    last = (done.stderr.strip().splitlines() or ["it printed no error"])[-1]
    return measured, f"{module} ended with exit status {done.returncode}: {last}"


def _figures(trained: dict[str, Any], generated: dict[str, Any]) -> dict[str, float]:
    """Return the measurements by the names of KNOWN.

    A part that failed is left out.
    """
    sft = trained.get("sft", {})
    later = generated.get("hand_overs_later", [])
    found = {
        "SFT, tokens/s": sft.get("tokens_per_second"),
        "SFT, MFU": sft.get("mfu"),
        "generation, tokens/s": generated.get("sampled_again", {}).get("tokens_per_second"),
        "hand-over, trainer held, s": max((each["trainer_held"] for each in later), default=None),
        "hand-over, new weights served after, s": max((each["loaded_after"] for each in later), default=None),
    }
    return {name: float(value) for name, value in found.items() if value is not None}
