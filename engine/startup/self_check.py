"""Self-check process: compare code paths with the model's own forward.

    python -m engine.startup.self_check '{"source": …}'     as engine.startup.model_check starts it

The process loads the model once. It writes one JSON object a line to stdout: `progress` during the work, then
`fault`, which is "" if all paths agree. It exits when its stdin is closed, so it does not outlive its parent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from engine.context import fault_of
from engine.data.sequence import TokenSequence
from engine.data.tokenizer import load_tokenizer
from engine.generators.checkpoint import model_folder
from engine.generators.interface import Generated, GenerationRequest, JobRefused
from engine.generators.scoring import ScoringRequest
from engine.generators.transformers import TransformersGenerator
from engine.model_folder import FolderFault, ModelFolder, check_folder, check_loaded
from engine.protocol.messages import Sampling, WeightRef
from engine.training.own_forward import packed_logprobs
from engine.training.policy import NoWeights, Policy
from engine.training.self_check import Reference, compare, probes, reference
from engine.training.unsupported import UnsupportedModel

# Prompts of a generation check, in tokens.
PROMPTS = (2, 9, 24)
# Temperature, samples of a prompt (which share its keys and values) and new tokens of each pass.
PASSES = ((1.0, 2, 8), (0.0, 1, 4))
ALREADY_ONE_LINE = (FolderFault, JobRefused, NoWeights, UnsupportedModel)


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What to check of the model `source` at `revision`.

    Attributes:
        trains: check the packed forward pass of training.
        generates: check the transformers generator.
        max_model_len: longest sequence in tokens.
        threads: CPU threads; 0 means the library's default.
    """

    source: str
    revision: str
    trains: bool
    generates: bool
    gradient_checkpointing: bool
    max_model_len: int
    threads: int


@dataclass(frozen=True, slots=True)
class SampledSequences:
    """A generator's sequences and log-probs, and its own scores of them."""

    sequences: list[TokenSequence]
    # (response tokens,) each.
    logprobs: list[NDArray[np.float32]]
    scores: list[float]

    def fault(self, expected: Reference) -> str:
        """Return "" if the log-probs agree with the model's own, else the figures.

        Args:
            expected: the model's own log-probs; its last entries belong to these sequences.
        """
        if not self.sequences:
            return ""
        own = expected.logprobs[-len(self.sequences) :]
        scores = [
            np.array([score / len(part)], np.float32) for score, part in zip(self.scores, own, strict=True)
        ]
        means = [part.mean(keepdims=True) for part in own]
        generated, scored = compare(self.logprobs, own), compare(scores, means)
        return generated.fault(expected.allowed) or scored.fault(expected.allowed)


def fault(request: CheckRequest) -> str:
    """Check the requested paths; describe the first one that is wrong.

    Returns: one line; "" if all paths agree with the model's own forward pass.
    Raises: any exception of loading or running the model.
    """
    if request.threads:
        torch.set_num_threads(request.threads)
    model = f"model.source {request.source}"
    if not Path(request.source).is_dir():
        send(progress=f"{model}: downloading missing files from the hub")
    folder = model_folder(request.source, request.revision)
    described = ModelFolder(folder)
    check_folder(described)
    check_loaded(described, load_tokenizer(folder))
    send(progress=f"{model}: comparing what the run will compute with the model's own forward pass")
    sampled = sample(folder, request.max_model_len) if request.generates else SampledSequences([], [], [])
    policy = Policy.load(folder, gradient_checkpointing=request.gradient_checkpointing)
    expected = reference(policy.model, [*probes(policy.model), *sampled.sequences], torch.float32)
    if request.trains:
        figures = expected.fault(packed_logprobs(policy, expected.sequences))
        if figures:
            return f"{model}: the packed path does not compute this model: {figures}; choose another model"
    figures = sampled.fault(expected)
    if figures:
        return (
            f"{model}: hardware.generator 'transformers' does not compute this model: {figures}; "
            "choose another model, or --set hardware.generator=vllm"
        )
    return ""


def sample(folder: Path, max_model_len: int) -> SampledSequences:
    """Sample and score completions of the model in `folder`.

    They are generated at temperature 1 and greedily.
    """
    generator = TransformersGenerator(folder, "cpu", torch.float32, 2 * len(PROMPTS), max_model_len)
    # Load as the worker does for the base model.
    generator.load(WeightRef("", 0, str(folder)))
    rng = np.random.default_rng(0)
    room = max(generator.longest - PASSES[0][2], 1)
    prompts = [
        rng.integers(0, generator.vocabulary, min(length, room)).astype(np.int32) for length in PROMPTS
    ]
    made = _generated(generator, prompts)
    sequences = [
        TokenSequence(
            np.concatenate([prompts[each.prompt], each.token_ids]), len(prompts[each.prompt]), finished=True
        )
        for each in made
    ]
    requests = [ScoringRequest(item.token_ids, item.prompt_length) for item in sequences]
    scored = sorted(
        (each for batch in generator.score(requests) for each in batch), key=lambda each: each.place
    )
    generator.close()
    return SampledSequences(sequences, [each.logprobs for each in made], [each.logprob for each in scored])


def _generated(generator: TransformersGenerator, prompts: list[NDArray[np.int32]]) -> list[Generated]:
    """Return the completions of all PASSES."""
    made: list[Generated] = []
    for temperature, samples, new_tokens in PASSES:
        waiting = deque(
            GenerationRequest(place, sample, ids, seed=place * samples + sample)
            for place, ids in enumerate(prompts)
            for sample in range(samples)
        )
        sampling = Sampling(temperature, new_tokens)
        made += [each for batch in generator.generate(waiting, sampling) for each in batch]
    return made


def send(**words: str) -> None:
    """Send one JSON object of `words` to the process that waits for the check."""
    print(json.dumps(words), file=_answers, flush=True)


def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an uncaught exception as a fault.

    A model that cannot be loaded or run is a fault too.
    """
    sys.__excepthook__(kind, error, trace)
    line = (
        str(error).partition("\n")[0]
        if isinstance(error, ALREADY_ONE_LINE)
        else f"cannot be loaded or run: {fault_of(error)}"
    )
    source = json.loads(sys.argv[1])["source"]
    remedy = "" if ";" in line else "; choose another model"
    send(fault=f"model.source {source}: {line.removeprefix(f'{source}: ')}{remedy}")


def end_with_stdin() -> None:
    """Exit this process at once when its stdin is closed."""

    def watch() -> None:
        sys.stdin.read()
        os._exit(1)

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def main() -> None:
    """Run the check that the first argument describes."""
    sys.excepthook = unhandled
    end_with_stdin()
    # Redirect the output of libraries to the log, so that it does not mix with the JSON lines.
    os.dup2(2, 1)
    send(fault=fault(CheckRequest(**json.loads(sys.argv[1]))))


# The stdout that the process was started with.
_answers = os.fdopen(os.dup(1), "w", encoding="utf-8")

if __name__ == "__main__":
    main()
