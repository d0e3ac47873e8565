"""Training speed and numerics on one device, of this project and of TRL.

One run writes one JSON file.

    python -m tests.bench.train --out train.json         # all parts on cuda:0, 8 to 10 minutes on an H100
    python -m tests.bench.train --parts sft_16k,numerics --out x.json
    python -m tests.bench.train --ranks 2 --parts sft_16k,sft_16k_fsdp,sft_16k_ranks --out two.json  # two GPUs
    python -m tests.bench.train --tiny --device cpu      # a dry run of every part in a minute or two

Each part is a separate process with its own time limit, so one that fails or hangs loses only itself. The
file is rewritten after every part.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.bench.environment import environment
from engine.bench.shapes import QWEN_1_5B, TINY, Shape
from engine.machine.spawn import SPAWN, process_of

BenchPart = Callable[[Shape, str], dict[str, Any]]


def parts(scale: int, ranks: int) -> dict[str, BenchPart]:
    """Return every part by name; token budgets are thousands × `scale`.

    The most important parts come first, those with several `ranks` last.
    """
    from engine.bench.train import sft
    from tests.bench import engine_parts

    several = (
        {"sft_16k_ranks": partial(engine_parts.sft_sharded, budget=16 * scale, count=ranks)}
        if ranks > 1
        else {}
    )
    return {
        "sft_16k": partial(sft, budget=16 * scale),
        "trl_liger": partial(_trl, tuned=True),
        "numerics": partial(engine_parts.numerics, budget=8 * scale),
        "grpo_16k": partial(engine_parts.grpo, budget=16 * scale),
        "profile_16k": partial(engine_parts.profiled, budget=16 * scale),
        "sft_32k_checkpointing": partial(sft, budget=32 * scale, checkpointing=True),
        "sft_found": partial(sft, budget=0),
        "sft_16k_fsdp": partial(engine_parts.sft_sharded, budget=16 * scale),
        "heads": engine_parts.heads,
        "trl_defaults": partial(_trl, tuned=False),
        **several,
    }


def _trl(shape: Shape, device: str, tuned: bool) -> dict[str, Any]:
    from tests.bench import trl_parts

    return trl_parts.sft(shape, device, tuned)


def _child(name: str, tiny: bool, device: str, ranks: int, answer: Connection) -> None:
    """Run one part and send its result, or its error."""
    began = time.perf_counter()
    with ErrorsTo(answer):
        shape = TINY if tiny else QWEN_1_5B
        result = parts(64 if tiny else 1024, ranks)[name](shape, device)
    answer.send({**result, "whole_part_seconds": time.perf_counter() - began})


class ErrorsTo:
    """Sends the end of the traceback of an error inside; the error propagates."""

    def __init__(self, answer: Connection) -> None:
        self._answer = answer

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            lines = "".join(traceback.format_exception(error)).splitlines()
            self._answer.send({"error": lines[-12:]})


def run_part(name: str, tiny: bool, device: str, ranks: int, limit: float) -> dict[str, Any]:
    """Return the result of one part in a new process.

    It is an `error` if the part failed or took longer than `limit` seconds.
    """
    here, there = SPAWN.Pipe(duplex=False)
    process = process_of(name, _child, name, tiny, device, ranks, there)
    process.start()
    there.close()
    came = wait([here], timeout=limit)
    try:
        result: dict[str, Any] = here.recv() if came else {"error": [f"no result within {limit:.0f} s"]}
    except EOFError:
        result = {"error": ["the process exited without a result"]}
    process.join(timeout=10)
    if process.is_alive():
        process.kill()
        process.join()
    return result


def main() -> None:
    """Run the selected parts, and write the JSON file after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("train.json"), help="JSON file to write")
    parser.add_argument("--parts", default="", help="comma-separated names; all if empty")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument(
        "--ranks", type=int, default=1, help="also run SFT on this many devices from --device up"
    )
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand parameters")
    parser.add_argument("--limit", type=float, default=110.0, help="seconds per part")
    parser.add_argument(
        "--total", type=float, default=570.0, help="seconds in all; parts beyond that are skipped"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    began = time.perf_counter()
    report: dict[str, Any] = {"environment": environment(), "parts": {}}
    for name in arguments.parts.split(",") if arguments.parts else parts(1024, arguments.ranks):
        left = arguments.total - (time.perf_counter() - began)
        result = (
            run_part(name, arguments.tiny, arguments.device, arguments.ranks, min(arguments.limit, left))
            if left > 20
            else {}
        )
        report["parts"][name] = result
        report["times_as_fast"] = times_as_fast(report["parts"])
        print(name, json.dumps(result), flush=True)
        arguments.out.write_text(json.dumps(report, indent=1))
    print("times as fast", json.dumps(report["times_as_fast"]), flush=True)


def times_as_fast(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return this project's SFT speed at 16 k over each of TRL's parts.

    Speeds are real tokens per second; parts without a figure are omitted.
    """
    speeds = {
        name: result["tokens_per_second"] for name, result in results.items() if "tokens_per_second" in result
    }
    ours = speeds.get("sft_16k")
    return {name: ours / speed for name, speed in speeds.items() if ours and name.startswith("trl")}


if __name__ == "__main__":
    main()
