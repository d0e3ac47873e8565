"""Generation with transformers only.

The model's own forward pass runs in this module's sampling loop. No GPU is needed. Requests are processed in
batches. A prompt that several completions share is read once, and finished completions leave the batch. Every
completion draws from its own stream, so results repeat bit for bit on a CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.tokenizer import load_tokenizer
from engine.generators import prefix
from engine.generators.body import hidden_states, prepared
from engine.generators.checkpoint import (
    check_fit,
    end_ids,
    folder_model,
    longest_sequence,
    named_tensors,
    positions_of,
    verify,
)
from engine.generators.interface import Generated, GenerationRequest, Generator, TokenDecoder, WeightsRefused
from engine.generators.sampling import Uniforms, greedy, sample
from engine.generators.scoring import Reading, Score, ScoringRequest, readings
from engine.protocol.messages import Finish, Sampling, WeightRef
from engine.training.head_form import head_of
from engine.training.unsupported import UnsupportedModel
from engine.weight_sync.weights import WeightReader

# Padded prompt tokens per forward pass. On a CPU a small pass stays in the cache and holds less padding:
# scoring short texts with a model of 135 million parameters takes 7 s instead of 14.
PREFILL_TOKENS = {"cpu": 2_048, "cuda": 16_384}
# Tokens with logits in memory at a time.
SCORED_AT_ONCE = 512
# Finished rows are dropped when less than this share of the batch is running.
SHRINK_BELOW = 0.9
# Tokens beyond a stop string's length that are decoded to find it.
STOP_WINDOW = 8


class TransformersGenerator:
    """Implements Generator with transformers, in this process.

    The model in `folder` is on `device` and has the weights of the last `load`.
    """

    tokenizer: TokenDecoder

    def __init__(
        self, folder: Path, device: str, dtype: torch.dtype, max_sequences: int, max_model_len: int
    ) -> None:
        self._device = torch.device(device)
        model = folder_model(folder, dtype)
        try:
            self._model, form = prepared(model, self._device)
        except UnsupportedModel as error:
            raise WeightsRefused(f"{folder}: {error}") from error
        self.longest = longest_sequence(self._model.config, max_model_len)
        self.positions = positions_of(self._model.config)
        self._head = head_of(self._model, form)
        self._end_ids = torch.tensor(sorted(end_ids(folder)), device=self._device)
        self._max_sequences = max_sequences
        self._reader = WeightReader()
        self.tokenizer = cast(TokenDecoder, load_tokenizer(folder))
        self.vocabulary = len(self._head.weight)

    def load(self, weights: WeightRef) -> None:
        """Copy the version into the model.

        Raises: WeightsRefused if it does not fit (the model is then unchanged), or if the slot was reused
        during the copy (the model may then be mixed).
        """
        parameters = dict(self._model.named_parameters())
        tensors = named_tensors(weights, self._reader)
        check_fit(tensors, {name: tuple(own.shape) for name, own in parameters.items()}, weights)
        for name, own in parameters.items():
            own.copy_(tensors[name])
        verify(weights, self._reader)

    def generate(self, waiting: deque[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        """Generate the `waiting` requests in batches; see `Generator.generate`.

        Batches follow the order of `waiting`, so the same job gives the same batches.
        """
        while waiting:
            batch = [waiting.popleft() for _ in range(min(len(waiting), self._max_sequences))]
            yield from self._batch(batch, sampling)

    def score(self, requests: Sequence[ScoringRequest]) -> Iterator[list[Score]]:
        """Compute log-probs of given texts; see `Generator.score`.

        Texts of similar length are read together, the longest first.
        """
        texts = readings(requests)
        for chunk in self._chunks(np.array([len(text.token_ids) for text in texts], dtype=np.int64)):
            yield self._read([texts[row] for row in chunk])

    def close(self) -> None:
        """Release the mapped slots."""
        self._reader.close()

    @torch.inference_mode()
    def _read(self, texts: list[Reading]) -> list[Score]:
        """Return the scores of the requests of `texts`, read in one forward pass."""
        width = max(len(text.token_ids) for text in texts)
        padded = np.stack([np.pad(text.token_ids, (0, width - len(text.token_ids))) for text in texts])
        positions = torch.arange(width).expand(len(texts), -1)
        hidden = self._hidden(torch.from_numpy(padded), positions, prefix.Nothing())
        asked = [(row, text, choice) for row, text in enumerate(texts) for choice in range(len(text.places))]
        sizes = np.array([len(text.token_ids) + 1 - text.start for _, text, _ in asked])
        rows = np.repeat([row for row, _, _ in asked], sizes)
        columns = np.concatenate([np.arange(text.start - 1, len(text.token_ids)) for _, text, _ in asked])
        targets = np.concatenate([text.targets(choice) for _, text, choice in asked])
        logprobs, greedy_ones = self._scored(hidden, *map(torch.from_numpy, (rows, columns, targets)))
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        sums = np.add.reduceat(logprobs, firsts)
        likeliest = np.logical_and.reduceat(greedy_ones, firsts)
        return [
            Score(text.places[choice], float(total), bool(every))
            for (_, text, choice), total, every in zip(asked, sums, likeliest, strict=True)
        ]

    def _scored(
        self, hidden: Tensor, rows: Tensor, columns: Tensor, targets: Tensor
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Score each of `targets` `(n,)` after `hidden[rows, columns]`.

        Returns: log-probs (n,), and True if the target is the likeliest (n,).
        """
        found = []
        for start in range(0, len(targets), SCORED_AT_ONCE):
            part = slice(start, start + SCORED_AT_ONCE)
            ids = targets[part].to(self._device)
            logits = self._head.logits(hidden[rows[part].to(self._device), columns[part].to(self._device)])
            logprobs = logits.gather(-1, ids.unsqueeze(1)).squeeze(1) - logits.logsumexp(-1)
            found.append((logprobs.double().cpu().numpy(), (logits.argmax(-1) == ids).cpu().numpy()))
        logprobs_parts, greedy_parts = zip(*found, strict=True)
        return np.concatenate(logprobs_parts), np.concatenate(greedy_parts)

    def _batch(self, requests: list[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        rows = _Rows(requests)
        stop = _StopStrings(self.tokenizer, sampling.stop)
        logits, memory = self._read_prompts(requests)
        for position in range(sampling.max_new_tokens):
            ids, logprobs = _draw(logits, sampling, rows)
            rows.append(ids.cpu().numpy(), logprobs.cpu().numpy())
            ended = torch.isin(ids, self._end_ids).cpu().numpy() | stop.reached(rows)
            yield rows.finish(ended, last=position + 1 == sampling.max_new_tokens)
            if not rows.running.any():
                return
            if rows.running.mean() < SHRINK_BELOW:
                kept = np.flatnonzero(rows.running)
                rows.keep(kept)
                chosen = torch.from_numpy(kept).to(self._device)
                memory.keep(chosen)
                ids = ids[chosen]
            logits = self._next_logits(ids, rows, memory)

    @torch.inference_mode()
    def _read_prompts(self, requests: list[GenerationRequest]) -> tuple[Tensor, prefix.Decode]:
        """Return the logits after each prompt, and the memory to continue with.

        The logits are `(rows, vocabulary)`.
        """
        distinct: dict[bytes, int] = {}
        prompt_of = [distinct.setdefault(request.token_ids.tobytes(), len(distinct)) for request in requests]
        prompts = [np.frombuffer(ids, dtype=requests[0].token_ids.dtype) for ids in distinct]
        lengths = np.array([len(prompt) for prompt in prompts])
        memory = prefix.Prefill(len(prompts), int(lengths.max()))
        logits = torch.empty(len(prompts), self.vocabulary, device=self._device)
        for chunk in self._chunks(lengths):
            width = int(lengths[chunk].max())
            padded = np.stack([np.pad(prompts[row], (0, width - lengths[row])) for row in chunk])
            rows = torch.from_numpy(chunk).to(self._device)
            memory.begin(rows)
            hidden = self._hidden(
                torch.from_numpy(padded), torch.arange(width).expand(len(chunk), -1), memory
            )
            last = torch.from_numpy(lengths[chunk] - 1).to(self._device)
            logits[rows] = self._head.logits(hidden[torch.arange(len(chunk), device=self._device), last])
        seats = torch.tensor(prompt_of, device=self._device)
        decode = prefix.Decode(memory, torch.from_numpy(lengths).to(self._device), seats)
        return logits[seats], decode

    @torch.inference_mode()
    def _next_logits(self, ids: Tensor, rows: _Rows, memory: prefix.Decode) -> Tensor:
        """Return float32 logits after one more token of each row.

        `ids` is `(rows,)`; the result is `(rows, vocabulary)`.
        """
        memory.begin()
        positions = torch.from_numpy(rows.prompt_lengths + rows.length - 1)
        hidden = self._hidden(ids.unsqueeze(1), positions.unsqueeze(1), memory)
        return self._head.logits(hidden[:, 0])

    def _chunks(self, lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Yield row numbers of similar prompts, few enough for one pass.

        Similar prompts have a similar length.
        """
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            size = max(1, PREFILL_TOKENS[self._device.type] // int(lengths[order[start]]))
            yield order[start : start + size]
            start += size

    def _hidden(self, ids: Tensor, positions: Tensor, memory: prefix.Memory) -> Tensor:
        return hidden_states(
            self._model, ids.to(self._device, torch.long), positions.to(self._device), memory
        )


@dataclass(slots=True)
class _Rows:
    """The completions of a batch, row by row.

    All running rows have the same length.
    Attributes:
        prompt_lengths: (rows,).
        running: (rows,).
        ids: one array (rows,) per token.
        logprobs: one array (rows,) per token.
    """

    requests: list[GenerationRequest]
    uniforms: Uniforms = field(init=False)
    prompt_lengths: NDArray[np.int64] = field(init=False)
    running: NDArray[np.bool_] = field(init=False)
    ids: list[NDArray[np.int32]] = field(default_factory=list)
    logprobs: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.uniforms = Uniforms([request.seed for request in self.requests])
        self.prompt_lengths = np.array([len(request.token_ids) for request in self.requests])
        self.running = np.ones(len(self.requests), dtype=np.bool_)

    @property
    def length(self) -> int:
        """Number of tokens of every running row."""
        return len(self.ids)

    def append(self, ids: NDArray[np.int64], logprobs: NDArray[np.float32]) -> None:
        self.ids.append(ids.astype(np.int32))
        self.logprobs.append(logprobs)

    def finish(self, ended: NDArray[np.bool_], last: bool) -> list[Generated]:
        """Return the running rows that `ended`; all of them at the last token."""
        done = self.running & (ended | last)
        self.running &= ~done
        return [
            self._generated(row, "stop" if ended[row] else "length") for row in np.flatnonzero(done).tolist()
        ]

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop every row except `rows`."""
        self.requests = [self.requests[row] for row in rows]
        self.uniforms.keep(rows.tolist())
        self.prompt_lengths, self.running = self.prompt_lengths[rows], self.running[rows]
        self.ids = [column[rows] for column in self.ids]
        self.logprobs = [column[rows] for column in self.logprobs]

    def _generated(self, row: int, finish: Finish) -> Generated:
        request = self.requests[row]
        ids = np.array([column[row] for column in self.ids], dtype=np.int32)
        logprobs = np.array([column[row] for column in self.logprobs], dtype=np.float32)
        return Generated(request.prompt, request.sample, ids, logprobs, finish)


class _StopStrings:
    """Searches for stop strings at the end of the generated tokens."""

    def __init__(self, tokenizer: TokenDecoder, strings: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._strings = strings
        self._window = max((len(string.encode()) for string in strings), default=0) + STOP_WINDOW

    def reached(self, rows: _Rows) -> NDArray[np.bool_]:
        """Return True `(rows,)` for running rows that end in a stop string.

        The last tokens are searched.
        """
        reached = np.zeros(len(rows.running), dtype=np.bool_)
        if self._strings:
            tails = np.stack(rows.ids[-self._window :], axis=1)
            for row in np.flatnonzero(rows.running):
                text = self._tokenizer.decode(tails[row].tolist(), skip_special_tokens=True)
                reached[row] = any(string in text for string in self._strings)
        return reached


def _draw(logits: Tensor, sampling: Sampling, rows: _Rows) -> tuple[Tensor, Tensor]:
    if sampling.temperature == 0.0:
        return greedy(logits)
    uniforms = rows.uniforms.next().to(logits.device)
    return sample(logits, sampling.temperature, sampling.top_p, uniforms)


# mypy checks here that the class has every method of the protocol, with the same types.
_generator: type[Generator] = TransformersGenerator
