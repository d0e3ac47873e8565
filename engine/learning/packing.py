"""From token sequences to packed microbatches: the one place where shift, mask and targets are made, for SFT and GRPO.

Position i of a sequence predicts token i + 1. Every response token is a target, the first one included, and nothing
else is: a response that ended by itself carries its end-of-sequence id and is trained to emit it; a truncated one is
not trained to emit anything after its last token. Sequences lie end to end without padding; attention keeps them
apart by `cu_seqlens`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence as Items
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Packed:
    """A microbatch. `sequence` counts within it; `rows[k]` is where its k-th sequence stands in the caller's list."""

    input_ids: Tensor  # (tokens,) int64
    position_ids: Tensor  # (tokens,) int64, from 0 in every sequence
    targets: Tensor  # (tokens,) int64: the next token; 0 where `mask` is false
    mask: Tensor  # (tokens,) bool: the target is a response token
    sequence: Tensor  # (tokens,) int64
    trained: Tensor  # (trained tokens,) int64: the positions where `mask` is true
    cu_seqlens: Tensor  # (sequences + 1,) int32: where each sequence starts, and the end
    rows: Tensor  # (sequences,) int64
    longest: int

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> Self:
        """The same microbatch on `device`; to a GPU by way of pinned memory, so that nobody waits for the copy."""
        there = torch.device(device)
        moved: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                source = value.pin_memory() if there.type == "cuda" and not value.is_cuda else value
                moved[name] = source.to(there, non_blocking=True)
        return type(self)(**moved)


BLANK = Sequence(
    np.zeros(1, np.int32), 1, finished=False
)  # no response: it goes through the model and counts nothing


def lay_out(sequences: Items[Sequence], rows: Items[int]) -> Packed:
    """Sequences `rows` of `sequences` end to end. ValueError names a sequence without a prompt to predict from."""
    chosen = [sequences[row] for row in rows]
    for row, item in zip(rows, chosen, strict=True):
        if not 0 < item.prompt_length <= len(item.token_ids):
            raise ValueError(
                f"sequence {row}: {len(item.token_ids)} tokens with a prompt of {item.prompt_length}; "
                "a sequence starts with one prompt token or more"
            )
    lengths = np.array([len(item.token_ids) for item in chosen], dtype=np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    sequence = np.repeat(np.arange(len(chosen)), lengths)
    input_ids = np.concatenate([item.token_ids for item in chosen]).astype(np.int64)
    position_ids = np.arange(len(input_ids)) - starts[sequence]

    prompt_lengths = np.array([item.prompt_length for item in chosen], dtype=np.int64)
    predicted = position_ids + 1  # where in its sequence the target stands
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


def plan(lengths: Items[int], budget: int, seed: int = 0, multiple_of: int = 1) -> list[list[int]]:
    """Which sequences share a microbatch of at most `budget` tokens: as few microbatches as balance into, of like size.

    A sequence longer than the budget gets a microbatch of its own. Equal lengths and the order of microbatches fall by
    `seed`. Their number is a multiple of `multiple_of` where there are sequences enough: every rank runs as many.
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


def balanced(longest_first: Items[int], lengths: Items[int], count: int) -> list[list[int]]:
    """`count` groups of like total length: each row in turn goes to the group that is shortest so far."""
    groups: list[list[int]] = [[] for _ in range(count)]
    shortest = [(0, group) for group in range(count)]
    for row in longest_first:
        total, group = shortest[0]
        groups[group].append(row)
        heapq.heapreplace(shortest, (total + lengths[row], group))
    return groups


def pack(
    sequences: Items[Sequence], budget: int, seed: int = 0, share: tuple[int, int] = (0, 1)
) -> list[Packed]:
    """All of `sequences` in microbatches of at most `budget` tokens, in a seeded order.

    Of several ranks, `share` (rank, ranks) gets its own part of them. All get equally many, as the ranks gather weights
    together: where sequences are too few, a rank's last microbatch is a `BLANK`, whose row is `len(sequences)`.
    """
    place, ranks = share
    groups = plan([len(item.token_ids) for item in sequences], budget, seed, multiple_of=ranks)
    groups += [[len(sequences)]] * (-len(groups) % ranks)
    with_blank = [*sequences, BLANK]
    return [lay_out(with_blank, rows) for rows in groups[place::ranks]]


def spread(packed: Packed, values: Items[NDArray[np.float32]]) -> Tensor:
    """Per-token values of the responses, `(response tokens,)` each and in the order of `packed`, as `(tokens,)`.

    Value t of a response lands on the position that predicts its token t, beside that token's log-prob; 0 elsewhere.
    """
    flat = torch.from_numpy(np.concatenate(values).astype(np.float32)).to(packed.mask.device)
    if len(flat) != len(packed.trained):
        raise ValueError(f"{len(flat)} values for {len(packed.trained)} response tokens")
    return torch.zeros(len(packed), device=flat.device).index_copy(0, packed.trained, flat)
