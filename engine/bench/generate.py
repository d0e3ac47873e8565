"""Speed and numerics of the worker: start, generation, weight hand-over.

The result is one JSON file.

    python -m engine.bench.generate --out generate.json                 # cuda:0 for both, minutes on an H100
    python -m engine.bench.generate --worker cuda:1 --out generate.json # trainer on cuda:0, worker on cuda:1
    python -m engine.bench.generate --tiny --trainer cpu --worker cpu   # a dry run with vLLM's CPU build

This process is the trainer: it holds the model, publishes versions, and then recomputes the worker's
log-probs. The worker is a separate process, as in a run, and builds its generator from the profile. Weights
are random and nothing is downloaded. The file is rewritten after every part.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.bench.environment import environment
from engine.bench.shapes import SHAPES, Shape
from engine.generators.interface import Generated, GenerationRequest
from engine.machine.spawn import SPAWN, process_of
from engine.protocol.messages import Sampling, WeightRef, derived_seed
from engine.weight_sync.weights import WeightPublisher
from profiles.load import load as load_profile
from profiles.schema import Profile

# vLLM's CPU build needs heads of 32.
TINY = Shape(64, 2, 2, 1, 128, 512, prompt=11, response=45, longest=205)
GROUP = 8
HAND_OVERS = 5
# Completions that are recomputed.
COMPARED = 16


@dataclass(frozen=True, slots=True)
class BenchTask:
    """A request to the worker: `weights` to load, then `requests` to generate.

    The time of its reply is measured.
    """

    weights: WeightRef | None
    requests: list[GenerationRequest]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class BenchReply:
    """Results of a task. Times are those of CLOCK_MONOTONIC, in seconds.

    All processes share that clock.
    Attributes:
        loaded: time when the weights were in use.
        first: time of the first completion; 0 without one.
        done: time of the last completion.
    """

    loaded: float
    first: float
    done: float
    generated: list[Generated]


def worker(profile: Profile, source: str, answer: Connection[Any, Any]) -> None:
    """Run the worker process: build the generator and serve tasks.

    None ends it.
    """
    from engine.generators.build import build

    generator = build(profile, source, lambda phase, detail: answer.send((phase, time.monotonic())))
    while (task := answer.recv()) is not None:
        if task.weights is not None:
            generator.load(task.weights)
        loaded, first, generated = time.monotonic(), 0.0, []
        for finished in generator.generate(deque(task.requests), task.sampling):
            generated += finished
            first = first or (time.monotonic() if finished else 0.0)
        answer.send(BenchReply(loaded, first, time.monotonic(), generated))
    generator.close()


class Bench:
    """The trainer's side: model, publisher and connection to the worker."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self._arguments = arguments
        self.shape: Shape = TINY if arguments.tiny else SHAPES[arguments.shape]
        self.dtype: torch.dtype = getattr(
            torch, arguments.dtype or ("float32" if arguments.tiny else "bfloat16")
        )
        self.model: PreTrainedModel = self.shape.model(arguments.trainer, self.dtype)
        self.model.requires_grad_(False)
        self.model.config.architectures = [type(self.model).__name__]
        # vLLM starts with dummy weights.
        if arguments.generator == "vllm":
            self.model.config.save_pretrained(folder)
        else:
            self.model.save_pretrained(folder)
        tokenizer(folder)
        self.publisher = WeightPublisher(f"bench-{folder.name}")
        self._version = 0
        self._worker, there = SPAWN.Pipe()
        self.process = process_of("worker", worker, self._profile(), str(folder), there)
        self.process.start()
        there.close()

    def start(self) -> dict[str, Any]:
        """Return the seconds of each start-up phase of the engine, and of all."""
        began = time.monotonic()
        marks = [("process", began)]
        while marks[-1][0] != "ready":
            marks.append(self._worker.recv())
        phases = [(name, after - before) for (name, before), (_, after) in pairwise(marks)]
        return {"phases": phases, "seconds": marks[-1][1] - began}

    def weight_sync(self) -> dict[str, float]:
        """Publish a changed model and measure the hand-over.

        Returns: seconds for which the trainer is held, and seconds from publication until the worker has
            loaded the weights and generated a token.
        """
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.mul_(1.001)
        self._synchronize()
        began = time.monotonic()
        weights = self.publisher.publish("bench", self._version, self.model.named_parameters())
        published = time.monotonic()
        reply = self.ask(BenchTask(weights, requests(self.shape, 1, 1), Sampling(0.0, 1)))
        self.publisher.release(weights)
        self._version += 1
        return {
            "trainer_held": published - began,
            "loaded_after": reply.loaded - published,
            "first_token_after": reply.first - published,
        }

    def generation(self, count: int, sampling: Sampling) -> dict[str, float]:
        """Measure output tokens per second with `count` completions in flight.

        The completions include log-probs.
        """
        began = time.monotonic()
        reply = self.ask(BenchTask(None, requests(self.shape, count, GROUP), sampling))
        tokens = sum(len(done.token_ids) for done in reply.generated)
        seconds = reply.done - began
        return {"tokens": tokens, "seconds": seconds, "tokens_per_second": tokens / seconds}

    def numerics(self, sampling: Sampling) -> dict[str, float]:
        """Compare the worker's completions with transformers' forward pass."""
        asked = requests(self.shape, COMPARED, 1)
        reply = self.ask(BenchTask(None, asked, sampling))
        prompts = {request.prompt: request.token_ids for request in asked}
        gaps, likeliest, whole, apart = [], [], [], []
        for done in reply.generated:
            logprobs = self._logprobs(prompts[done.prompt], done)
            ids = torch.from_numpy(done.token_ids.astype(np.int64)).to(logprobs.device)
            ours = logprobs.gather(1, ids[:, None])[:, 0].cpu().numpy()
            gaps.append(np.abs(np.exp(ours) - np.exp(done.logprobs)))
            apart.append(np.abs(ours - done.logprobs))
            best = (logprobs.argmax(-1) == ids).cpu().numpy()
            likeliest.append(best)
            whole.append(best.all())
        return {
            "probability_difference_mean": float(np.concatenate(gaps).mean()),
            "probability_difference_max": float(np.concatenate(gaps).max()),
            "logprob_difference_mean": float(np.concatenate(apart).mean()),
            "logprob_difference_max": float(np.concatenate(apart).max()),
            "tokens_likeliest_for_transformers": float(np.concatenate(likeliest).mean()),
            "completions_likeliest_throughout": float(np.mean(whole)),
        }

    def ask(self, task: BenchTask) -> BenchReply:
        """Send `task` to the worker, and wait for its reply."""
        self._worker.send(task)
        reply: BenchReply = self._worker.recv()
        return reply

    def close(self) -> dict[str, Any]:
        """Stop the worker; return the seconds that took, and its exit status."""
        began = time.monotonic()
        self._worker.send(None)
        self.process.join(60)
        self.publisher.close()
        return {"seconds": time.monotonic() - began, "exitcode": self.process.exitcode}

    def _profile(self) -> Profile:
        arguments = self._arguments
        overrides = [
            f"hardware.worker={arguments.worker}",
            f"hardware.generator={arguments.generator}",
            f"hardware.worker_tensor_parallel={arguments.tensor_parallel}",
            f"hardware.worker_copies={arguments.copies}",
            f"hardware.gpu_memory_fraction={arguments.gpu_memory_fraction}",
            f"hardware.enforce_eager={str(arguments.eager).lower()}",
            f"hardware.max_sequences={arguments.sequences}",
            f"model.compute_dtype={str(self.dtype).removeprefix('torch.')}",
        ]
        return load_profile("qwen2.5-math-1.5b", overrides)

    @torch.inference_mode()
    def _logprobs(self, prompt: np.ndarray[Any, Any], done: Generated) -> torch.Tensor:
        ids = torch.tensor([[*prompt.tolist(), *done.token_ids.tolist()]], device=self.model.device)
        logits: torch.Tensor = self.model(ids).logits[0, len(prompt) - 1 : -1]
        return logits.float().log_softmax(-1)

    def _synchronize(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)


def tokenizer(folder: Path) -> None:
    """Save a tokenizer of a few words.

    The engine needs one, but the benchmark has no text.
    """
    words = {"<end>": 0, "word": 1}
    made = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(models.WordLevel(words, "word")), eos_token="<end>"
    )
    made.save_pretrained(folder)


def requests(shape: Shape, count: int, group: int) -> list[GenerationRequest]:
    """Return `count` requests, `group` for each prompt of random ids."""
    rng = np.random.default_rng(0)
    prompts = [
        rng.integers(1, shape.vocabulary, shape.prompt).astype(np.int32) for _ in range(-(-count // group))
    ]
    return [
        GenerationRequest(
            number // group, number % group, prompts[number // group], derived_seed("bench", number)
        )
        for number in range(count)
    ]


def measure(bench: Bench, arguments: argparse.Namespace, out: Path) -> None:
    """Run all parts in order.

    The first hand-over also makes and page-locks the slot, and sends the first real weights.
    """
    report: dict[str, Any] = {"environment": environment(), "arguments": vars(arguments) | {"out": str(out)}}

    def note(name: str, result: Any) -> None:
        report[name] = result
        print(name, json.dumps(result), flush=True)
        out.write_text(json.dumps(report, indent=1))

    note("start", bench.start())
    note("hand_overs", [bench.weight_sync() for _ in range(HAND_OVERS)])
    new, count = arguments.new_tokens, arguments.sequences
    note("warm_up", bench.generation(count, Sampling(1.0, min(new, 32))))
    note("sampled", bench.generation(count, Sampling(1.0, new)))
    note("sampled_again", bench.generation(count, Sampling(1.0, new)))
    note("greedy", bench.generation(count, Sampling(0.0, new)))
    note("two_batches", bench.generation(2 * count, Sampling(1.0, new)))
    note("hand_overs_later", [bench.weight_sync() for _ in range(2)])
    note("numerics_greedy", bench.numerics(Sampling(0.0, min(new, 128))))
    note("numerics_sampled", bench.numerics(Sampling(1.0, new)))
    note("end", bench.close())


def main() -> None:
    """Measure what the options select, and write the JSON file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("generate.json"), help="JSON file to write")
    parser.add_argument("--trainer", default="cuda:0", help="device of the model that is published")
    parser.add_argument("--worker", default="cuda:0", help="device of the generator")
    parser.add_argument("--generator", default="vllm", choices=("vllm", "transformers"))
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--copies", type=int, default=0, help="of the model on the worker's GPU (0: found)")
    parser.add_argument(
        "--gpu-memory-fraction", type=float, default=0.7, help="of the worker's GPU, for vLLM"
    )
    parser.add_argument("--sequences", type=int, default=512, help="completions in flight")
    parser.add_argument("--new-tokens", type=int, default=512)
    parser.add_argument("--dtype", default="", choices=("", "bfloat16", "float32"))
    parser.add_argument("--eager", action="store_true", help="no compilation, no CUDA graphs")
    parser.add_argument("--shape", default="1.5b", choices=SHAPES, help="of the model, random weights")
    parser.add_argument("--tiny", action="store_true", help="a model of some 100,000 parameters")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(arguments, Path(folder))
        try:
            measure(bench, arguments, arguments.out)
        finally:
            bench.publisher.close()
            if bench.process.is_alive():
                bench.process.kill()


if __name__ == "__main__":
    main()
