"""Compare many transformers families with plain transformers.

The figures are loss, gradients and sampler log-probs.

    python -m tests.bench.architectures            # a table in Markdown, on the CPU in about a minute
    python -m tests.bench.architectures Gemma-2 Phi

The reference is the family's own forward pass: `from_pretrained` with eager attention, one sequence at a
time, in float32. A family is equal within the tolerance, or is rejected when the model is loaded.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from engine.data.sequence import TokenSequence
from engine.generators.interface import GenerationRequest, WeightsRefused
from engine.generators.transformers import TransformersGenerator
from engine.protocol.messages import Sampling, WeightRef
from engine.training.packing import lay_out
from engine.training.policy import Policy
from engine.training.unsupported import UnsupportedModel
from tests.support import families

# Allowed error of a log-prob.
TOLERANCE = 1e-4
# Allowed error of a gradient, relative to its norm.
GRADIENT_TOLERANCE = 1e-3


@dataclass(slots=True)
class FamilyResult:
    """Results for one family.

    A difference is NaN if the family was rejected before it was measured.
    Attributes:
        reference: mean loss of plain transformers, nats per token.
        loss: the same of this project.
        trained: largest |Δ log-prob| of the packed path.
        gradient: largest relative error of a parameter's gradient.
        sampled: largest |Δ log-prob| of the transformers generator.
    """

    family: str
    model_type: str = ""
    reference: float = float("nan")
    loss: float = float("nan")
    trained: float = float("nan")
    gradient: float = float("nan")
    sampled: float = float("nan")
    refusals: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """True if everything was computed, within the tolerances."""
        close = self.trained <= TOLERANCE and self.sampled <= TOLERANCE
        return close and self.gradient <= GRADIENT_TOLERANCE

    @property
    def verdict(self) -> str:
        """One of `equal`, `refused` and `WRONG`."""
        if self.refusals:
            return "refused"
        return "equal" if self.equal else "WRONG"


def sequences(count: int = 6, longest: int = 40) -> list[TokenSequence]:
    """Return random prompts and responses.

    Most of them are longer than the families' windows.
    """
    rng = np.random.default_rng(0)
    return [
        TokenSequence(
            rng.integers(2, families.VOCABULARY, length).astype(np.int32), int(rng.integers(3, 9)), True
        )
        for length in rng.integers(10, longest, count).tolist()
    ]


def compare(family: str, folder: Path) -> FamilyResult:
    """Measure one family on a model that is saved in `folder`."""
    model = families.make(family, folder)
    row = FamilyResult(family, model.config.model_type)
    oracle: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    nn.Module.eval(oracle)
    try:
        _train(row, Policy.load(folder), oracle, sequences())
    except UnsupportedModel as error:
        row.refusals.append(str(error))
    try:
        generator = TransformersGenerator(folder, "cpu", torch.float32, max_sequences=32, max_model_len=64)
        generator.load(WeightRef("base", 0, str(folder)))
    except WeightsRefused as error:
        row.refusals.append(str(error))
    else:
        _sample(row, generator, oracle)
    return row


def _train(
    row: FamilyResult, policy: Policy, oracle: PreTrainedModel, items: Sequence[TokenSequence]
) -> None:
    packed = lay_out(items, range(len(items)))
    loss, tokens = policy.cross_entropy(packed)
    loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found, _ = policy.logprobs(packed)
    expected = [own_logprobs(oracle, item.token_ids, item.prompt_length) for item in items]
    total = -torch.cat(expected).sum()
    total.backward()  # type: ignore[no-untyped-call]
    row.loss, row.reference = loss.item() / tokens, total.item() / tokens
    row.trained = float((found[packed.mask] - torch.cat(expected).detach()).abs().max())
    row.gradient = _gradient_error(policy.model, oracle)


def _gradient_error(model: PreTrainedModel, oracle: PreTrainedModel) -> float:
    """Return the largest error of a parameter's gradient.

    It is relative to the larger of its norm and 1e-4 of the whole gradient's norm.
    """
    pairs = [
        (own.grad, other.grad)
        for own, other in zip(model.parameters(), oracle.parameters(), strict=True)
        if other.grad is not None
    ]
    least = 1e-4 * float(torch.stack([other.norm() for _, other in pairs]).norm())
    return max(
        float((torch.zeros_like(other) if own is None else own).sub(other).norm())
        / max(float(other.norm()), least)
        for own, other in pairs
    )


def _sample(row: FamilyResult, generator: TransformersGenerator, oracle: PreTrainedModel) -> None:
    """Score greedy and sampled completions with a plain full forward pass.

    Each prompt has several completions.
    """
    rng = np.random.default_rng(1)
    prompts = [rng.integers(2, families.VOCABULARY, length).astype(np.int32) for length in (1, 3, 7, 12, 20)]
    worst = 0.0
    for temperature, samples in ((0.0, 1), (1.0, 2)):
        requests = [
            GenerationRequest(index, sample, ids, 100 * index + sample)
            for index, ids in enumerate(prompts)
            for sample in range(samples)
        ]
        for finished in generator.generate(deque(requests), Sampling(temperature, 24)):
            for done in finished:
                prompt = prompts[done.prompt]
                whole = np.concatenate([prompt, done.token_ids])
                with torch.no_grad():
                    expected = own_logprobs(oracle, whole, len(prompt))
                worst = max(worst, float(np.abs(done.logprobs - expected.numpy()).max()))
    row.sampled = worst


def own_logprobs(oracle: PreTrainedModel, ids: NDArray[np.int32], prompt: int) -> Tensor:
    """Return log-probs after the first `prompt` tokens, by transformers.

    Args:
        ids: (tokens,).
    Returns: (tokens − prompt,).
    """
    tokens = torch.from_numpy(ids).long()
    logits: Tensor = oracle(input_ids=tokens[None]).logits[0, prompt - 1 : -1].float()
    return logits.log_softmax(-1).gather(-1, tokens[prompt:, None])[:, 0]


def table(rows: Sequence[FamilyResult]) -> str:
    """Format rows as a Markdown table."""
    lines = [
        "| family | model type | loss, transformers | loss, ours | max Δ log-prob, training | gradient error "
        "| max Δ log-prob, sampler | result |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        numbers = [f"{row.reference:.4f}", f"{row.loss:.4f}"]
        numbers += [f"{value:.1e}" for value in (row.trained, row.gradient, row.sampled)]
        cells = ["–" if number == "nan" else number for number in numbers]
        # The reason follows the folder, which is temporary, and the model type, which has a column.
        reason = row.refusals[0].partition(f"model type {row.model_type!r}: ")[2] if row.refusals else ""
        result = f"refused: {reason}" if reason else row.verdict
        lines.append(f"| {row.family} | `{row.model_type}` | {' | '.join(cells)} | {result} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="compare families with plain transformers")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="all of them by default")
    chosen = parser.parse_args().families or list(families.FAMILIES)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    rows = []
    for family in chosen:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(compare(family, Path(folder)))
    print(table(rows))


if __name__ == "__main__":
    main()
