"""Pack token sequences into microbatches, for SFT and GRPO.

Only this module computes shift, mask and targets. Position i of a sequence predicts token i + 1. Every
response token is a target, including the first one. Nothing else is a target.
A response that ended by itself includes its end-of-sequence id, and the model learns to emit it. A truncated
response has no target after its last token.
Sequences lie end to end without padding. Attention separates them by `cu_seqlens`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.sequence import TokenSequence


@dataclass(frozen=True, slots=True)
class Packed:
    """One microbatch.

    Attributes:
        input_ids: (tokens,) int64.
        position_ids: (tokens,) int64, from 0 in every sequence.
        targets: (tokens,) int64, the next token, or 0 if `mask` is false.
        mask: (tokens,) bool, true if the target is a response token.
        sequence: (tokens,) int64, the index within the microbatch.
        trained: (trained tokens,) int64, the positions with a true `mask`.
        cu_seqlens: (sequences + 1,) int32, the start of each sequence, and the end.
        rows: (sequences,) int64, the index of each sequence in the caller's list.
        longest: tokens of the longest sequence.
    """

    input_ids: Tensor
    position_ids: Tensor
    targets: Tensor
    mask: Tensor
    sequence: Tensor
    trained: Tensor
    cu_seqlens: Tensor
    rows: Tensor
    longest: int

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> Self:
        """Return the same microbatch on `device`.

        A copy to a GPU goes through pinned memory, so that the caller need not wait for it.
        """
        there = torch.device(device)
        moved: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                source = value.pin_memory() if there.type == "cuda" and not value.is_cuda else value
                moved[name] = source.to(there, non_blocking=True)
        return type(self)(**moved)


# No response: it runs through the model and has no target.
BLANK = TokenSequence(np.zeros(1, np.int32), 1, finished=False)


def _check_prompts(rows: Sequence[int], chosen: list[TokenSequence]) -> None:
    for row, item in zip(rows, chosen, strict=True):
        if not 0 < item.prompt_length <= len(item.token_ids):
            raise ValueError(
                f"sequence {row}: {len(item.token_ids)} tokens with a prompt of {item.prompt_length}; "
                "a sequence needs at least one prompt token"
            )


def lay_out(sequences: Sequence[TokenSequence], rows: Sequence[int]) -> Packed:
    """Lay the sequences `rows` of `sequences` end to end.

    Raises: ValueError, naming the sequence, if one has no prompt to predict from.
    """
    chosen = [sequences[row] for row in rows]
    _check_prompts(rows, chosen)
    lengths = np.array([len(item.token_ids) for item in chosen], dtype=np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    sequence = np.repeat(np.arange(len(chosen)), lengths)
    input_ids = np.concatenate([item.token_ids for item in chosen]).astype(np.int64)
    position_ids = np.arange(len(input_ids)) - starts[sequence]

    prompt_lengths = np.array([item.prompt_length for item in chosen], dtype=np.int64)
    # The target's index within its sequence.
    predicted = position_ids + 1
    mask = (predicted >= prompt_lengths[sequence]) & (predicted < lengths[sequence])
    targets = np.where(mask, np.roll(input_ids, -1), 0)
    return Packed(
        input_ids=torch.from_numpy(input_ids),
        position_ids=torch.from_numpy(position_ids),
        targets=torch.from_numpy(targets),
        mask=torch.from_numpy(mask),
        sequence=torch.from_numpy(sequence),
        trained=torch.from_numpy(np.flatnonzero(mask)),
        cu_seqlens=torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),
        rows=torch.tensor(list(rows), dtype=torch.int64),
        longest=int(lengths.max()),
    )


def plan(lengths: Sequence[int], budget: int, seed: int = 0, multiple_of: int = 1) -> list[list[int]]:
    """Group sequences into balanced microbatches of at most `budget` tokens.

    There are as few microbatches as fit, of similar size. A sequence longer than the budget gets its own
    microbatch. `seed` decides the order of microbatches and of sequences with equal lengths.
    Args:
        lengths: (sequences,) tokens.
        budget: maximum tokens per microbatch.
        multiple_of: the number of microbatches is a multiple of it if there are enough sequences, because
            every rank runs equally many.
    Returns: the rows of each microbatch.
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(lengths))
    longest_first = shuffled[np.argsort(-np.asarray(lengths)[shuffled], kind="stable")].tolist()
    alone = [[row] for row in longest_first if lengths[row] > budget]
    others = longest_first[len(alone) :]
    fewest = -(-sum(lengths[row] for row in others) // budget)
    groups: list[list[int]] = []
    for count in range(fewest, len(others) + 1):
        groups = balanced(others, lengths, count)
        fits = all(sum(lengths[row] for row in group) <= budget for group in groups)
        if fits and (len(alone) + count) % multiple_of == 0:
            break
    together = alone + groups
    return [sorted(together[place]) for place in rng.permutation(len(together)).tolist()]


def balanced(longest_first: Sequence[int], lengths: Sequence[int], count: int) -> list[list[int]]:
    """Split rows into `count` groups of similar total length.

    Each row in turn joins the group that is shortest so far.
    """
    groups: list[list[int]] = [[] for _ in range(count)]
    shortest = [(0, group) for group in range(count)]
    for row in longest_first:
        total, group = shortest[0]
        groups[group].append(row)
        heapq.heapreplace(shortest, (total + lengths[row], group))
    return groups


def pack(
    sequences: Sequence[TokenSequence], budget: int, seed: int = 0, share: tuple[int, int] = (0, 1)
) -> list[Packed]:
    """Pack all `sequences` into microbatches in a seeded order.

    A microbatch has at most `budget` tokens.
    Args:
        share: (rank, ranks); the result is this rank's part. All ranks get equally many microbatches, because
            they gather weights together. If there are too few sequences, a rank's last microbatch is a
            `BLANK` with row `len(sequences)`.
    """
    place, ranks = share
    groups = plan([len(item.token_ids) for item in sequences], budget, seed, multiple_of=ranks)
    groups += [[len(sequences)]] * (-len(groups) % ranks)
    with_blank = [*sequences, BLANK]
    return [lay_out(with_blank, rows) for rows in groups[place::ranks]]


def spread(packed: Packed, values: Sequence[NDArray[np.float32]]) -> Tensor:
    """Place per-token values of responses at the positions of a microbatch.

    Value t of a response lands on the position that predicts its token t, so it lines up with that token's
    log-prob. Other positions are 0.
    Args:
        values: one (response tokens,) array per sequence, in the order of `packed`.
    Returns: (tokens,).
    Raises: ValueError if the number of values differs from the number of response tokens.
    """
    flat = torch.from_numpy(np.concatenate(values).astype(np.float32)).to(packed.mask.device)
    if len(flat) != len(packed.trained):
        raise ValueError(f"{len(flat)} values for {len(packed.trained)} response tokens")
    return torch.zeros(len(packed), device=flat.device).index_copy(0, packed.trained, flat)
