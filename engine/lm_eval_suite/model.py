"""A generator of this project as a model of lm-eval.

    lm-eval ─▶ texts, settings ─▶ GeneratorModel: token ids ─▶ Generator ─▶ text or log-probs ─▶ lm-eval

The tasks of the suite run on the generator that serves the run's completions. Texts are tokenised as in
lm-eval's own Hugging Face model, so scores agree with it. There is one exception: an end-of-sequence token
that a tokenizer adds to every text is omitted, because nothing could follow it.
Stop strings and limits are passed to the generator unchanged. A text longer than the window loses its start,
as in lm-eval's own model. The number of lost tokens is kept, and `asked` returns the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from engine.data.encoding import encode_texts
from engine.generators.interface import Generated, GenerationRequest, Generator, text_of
from engine.generators.scoring import ScoringRequest
from engine.lm_eval_suite.progress import Document, DocumentCounter, documents_of
from engine.lm_eval_suite.window import SPARE
from engine.protocol.messages import Sampling, completion_seed

# Requests. Together they cost the tokenizer a fraction of what they cost one by one.
TOKENISED_AT_A_TIME = 4096
# New tokens if a task sets no limit, as in lm-eval.
DEFAULT_LIMIT = 256

# Context and continuation as text, and the ids of both.
EncodedPair = tuple[Any, list[int], list[int]]


class GeneratorModel(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """Makes `generator` a model that lm-eval can call, with its last weights.

    Args:
        between: called between the generator's steps.
        window: lm-eval's `max_length` in tokens; 0 means the generator's maximum.
        report: called about once a second with the number of finished documents and of all.
    """

    def __init__(
        self,
        generator: Generator,
        between: Callable[[], None] = lambda: None,
        seed: int = 0,
        window: int = 0,
        report: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        super().__init__()
        self._generator = generator
        self._between = between
        self._seed = seed
        self.tokenizer: Any = generator.tokenizer
        # Ids of the texts of the current requests.
        self._encoded: dict[str, list[int]] = {}
        # First answer by leaf task and document.
        self.generated: dict[tuple[str, int], Generated] = {}
        # Tokens that one window reads, and predicts.
        self.max_length = window or generator.longest - SPARE
        # Number of cut tokens, by context and continuation.
        self._lost: dict[tuple[str, str], int] = {}
        self._documents = DocumentCounter(report)
        # Documents of the current requests.
        self._owners: list[Document] = []

    @property
    def eot_token_id(self) -> int:
        """Return the id of the end-of-sequence token."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """Return the id of the token that replaces an empty context.

        It is the beginning-of-sequence token if the tokenizer has one, else the end-of-sequence token.
        """
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    @property
    def tokenizer_name(self) -> str:
        """Return the tokenizer's name, for lm-eval's cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return the ids of `string`.

        The tokenizer's special tokens come first, unless they are already there or not wanted.
        """
        if add_special_tokens is None and string in self._encoded:
            return self._encoded[string]
        if add_special_tokens is None:
            add_special_tokens = self._wants_special_tokens(string)
        return encode_texts(self.tokenizer, [string], add_special_tokens)[0]

    def _wants_special_tokens(self, string: str) -> bool:
        return not string.startswith(self.tokenizer.decode([self.prefix_token_id]))

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return each continuation's log-prob, and whether it is the likeliest.

        The log-prob is given the context.
        lm-eval separates context and continuation.
        """
        found: list[tuple[float, bool]] = []
        self._documents.expect(documents_of(requests))
        for start in range(0, len(requests), TOKENISED_AT_A_TIME):
            block = requests[start : start + TOKENISED_AT_A_TIME]
            self._owners = list(documents_of(block))
            self._encode([request.args for request in block])
            found += super().loglikelihood(block, disable_tqdm=True)
        self._encoded = {}
        return found

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Tokenise in bulk the texts that separate context and continuation.

        lm-eval needs them for `pairs`.
        """
        texts = {context + continuation for context, continuation in pairs if context}
        texts |= {context.rstrip() for context, _ in pairs}
        self._encoded = {}
        for special in (True, False):
            some = [text for text in texts if text and self._wants_special_tokens(text) is special]
            if some:
                self._encoded |= zip(some, encode_texts(self.tokenizer, some, special), strict=True)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of whole documents.

        The windows do not overlap; lm-eval cuts them.
        """
        windows: list[EncodedPair] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(
                ids, self.prefix_token_id, self.max_length, context_len=1
            ):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(owner)
        documents = list(documents_of(requests))
        self._owners = [documents[owner] for owner in owners]
        self._documents.expect(self._owners)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return the answers, each cut before its first stop string."""
        answers = [""] * len(requests)
        found: dict[int, Generated] = {}
        owners = list(documents_of(requests))
        self._documents.expect(owners)
        for sampling, places in _by_sampling([request.args[1] for request in requests]).items():
            waiting = deque(self._generation(requests[place].args[0], place, sampling) for place in places)
            for finished in self._generator.generate(waiting, sampling):
                for generated in finished:
                    answers[generated.prompt] = text_of(self.tokenizer, generated.token_ids, sampling.stop)
                    found[generated.prompt] = generated
                    self._documents.answered(owners[generated.prompt])
                self._moved()
        for place, request in enumerate(requests):
            self.generated.setdefault((request.task_name, request.doc_id), found[place])
        return answers

    def _loglikelihood_tokens(self, requests: Sequence[EncodedPair], **_: Any) -> list[tuple[float, bool]]:
        """Return each continuation's log-prob, and whether it is likeliest.

        Texts that are too long lose their start.
        """
        # The value of an empty continuation.
        found = [(0.0, True)] * len(requests)
        asked = [place for place, (_, _, continuation) in enumerate(requests) if continuation]
        for place in set(range(len(requests))) - set(asked):
            self._documents.answered(self._owners[place])
        texts = [self._scoring(*requests[place]) for place in asked]
        for scores in self._generator.score(texts):
            for score in scores:
                found[asked[score.place]] = (score.logprob, score.greedy)
                self._documents.answered(self._owners[asked[score.place]])
            self._moved()
        return found

    def _moved(self) -> None:
        self._documents.report()
        self._between()

    def asked(self, context: str, continuation: str = "") -> tuple[str, int]:
        """Return the rest of a request's context after the cut.

        The second value is the number of tokens that its start lost.
        0 means that the whole context was used.
        """
        lost = self._lost.get((context, continuation), 0)
        left = self.tokenizer.decode(self.tok_encode(context)[lost:]) if lost else context
        return str(left), lost

    def _scoring(self, texts: Any, context: list[int], continuation: list[int]) -> ScoringRequest:
        if len(continuation) > self.max_length:
            raise ValueError(
                f"a choice of {len(continuation)} tokens is longer than the window of {self.max_length}; "
                "raise eval.window"
            )
        # A context of white space only belongs to the continuation.
        context = context or [self.prefix_token_id]
        lost = len(context) + len(continuation) - (self.max_length + 1)
        if lost > 0:
            self._lost[texts] = lost
        ids = np.array([*context[max(0, lost) :], *continuation], dtype=np.int32)
        return ScoringRequest(ids, len(ids) - len(continuation))

    def _generation(self, context: str, place: int, sampling: Sampling) -> GenerationRequest:
        room = self.max_length - sampling.max_new_tokens
        if room < 1:
            raise ValueError(
                f"{sampling.max_new_tokens} new tokens leave no room for a question in a window of {self.max_length}; "
                "raise eval.window or lower eval.max_new_tokens"
            )
        ids = self.tok_encode(context) or [self.prefix_token_id]
        if len(ids) > room:
            self._lost[context, ""] = len(ids) - room
        seed = completion_seed(self._seed, 0, place, 0)
        return GenerationRequest(place, 0, np.array(ids[-room:], dtype=np.int32), seed)


def _by_sampling(settings: Sequence[Mapping[str, Any]]) -> dict[Sampling, list[int]]:
    """Group the numbers of the requests by their sampling."""
    found: dict[Sampling, list[int]] = {}
    for place, each in enumerate(settings):
        found.setdefault(_sampling(each), []).append(place)
    return found


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    """Convert lm-eval's `generation_kwargs`.

    The result is greedy unless they request sampling.
    """
    stop = settings.get("until") or ()
    temperature = float(settings.get("temperature") or 0.0)
    return Sampling(
        temperature if settings.get("do_sample", temperature > 0.0) else 0.0,
        next(_limits(settings), DEFAULT_LIMIT),
        float(settings.get("top_p") or 1.0),
        (stop,) if isinstance(stop, str) else tuple(text for text in stop if text),
    )


def _limits(settings: Mapping[str, Any]) -> Iterator[int]:
    """Yield the limit under each of the names that tasks use."""
    for name in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"):
        if settings.get(name):
            yield int(settings[name])
