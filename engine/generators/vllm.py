"""Generation with vLLM 0.24 to 0.33, on CUDA or its CPU build.

Only this module uses vLLM's interface. The engine runs in this process (VLLM_ENABLE_V1_MULTIPROCESSING=0), so
it ends with it and leaves nothing behind. With tensor parallelism vLLM starts one process per GPU, and they
end with it.
The engine starts with dummy weights. Real weights arrive like every later version: they are checked, then
loaded by name inside the engine, then all caches are dropped.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoConfig

from engine.context import fault_of
from engine.data.tokenizer import load_tokenizer
from engine.generators.agreement import check_agreement
from engine.generators.checkpoint import (
    check_fit,
    end_ids,
    folder_model,
    is_slot,
    longest_sequence,
    named_tensors,
    parameters,
    positions_of,
    torch_dtype,
)
from engine.generators.heap import settle_heap
from engine.generators.interface import Generated, GenerationRequest, Generator, TokenDecoder, WeightsRefused
from engine.generators.scoring import Reading, Score, ScoringRequest, readings
from engine.generators.shared_gpu import cache_bytes, token_bytes
from engine.generators.vllm_extension import transformers_alone
from engine.protocol.messages import Finish, Sampling, WeightRef
from engine.training.loading import empty_model
from engine.weight_sync.weights import WeightReader
from profiles.schema import Hardware

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    # PHASES are read from its log.
    "VLLM_LOGGING_LEVEL": "INFO",
    "HF_HUB_OFFLINE": "1",
}
CPU_ENVIRONMENT = {"TORCHDYNAMO_DISABLE": "1"}
# Model runner V2 draws seeded requests in one kernel. V1, the default of 0.24 for Qwen2, draws them one by
# one.
CUDA_ENVIRONMENT = {"VLLM_USE_V2_MODEL_RUNNER": os.environ.get("VLLM_USE_V2_MODEL_RUNNER", "1")}
# By default vLLM would take half the machine's memory.
CPU_CACHE_BYTES = 64 << 20
# Characters of a vLLM error, which may list every parameter.
LONGEST_REASON = 200
# New requests per engine step, so that the first ones do not wait until all are added.
ADDED_A_STEP = 64
# Text in vLLM's log, and the start-up phase that begins with it.
PHASES = (
    ("Starting to load model", "loading"),
    ("torch.compile", "compiling"),
    ("KV cache size", "capturing"),
)


class VllmGenerator:
    """Implements Generator with vLLM and the model in `folder`.

    `phase(name, detail)` is called for each start-up phase.
    """

    def __init__(
        self, folder: Path, hardware: Hardware, dtype: str, phase: Callable[[str, str], None]
    ) -> None:
        os.environ.update(ENVIRONMENT | (CPU_ENVIRONMENT if hardware.worker == "cpu" else CUDA_ENVIRONMENT))
        # vLLM reads the environment on import.
        from vllm import LLM

        self._config = AutoConfig.from_pretrained(folder)
        self.vocabulary: int = self._config.vocab_size
        self.longest = longest_sequence(self._config, hardware.max_model_len)
        self.positions = positions_of(self._config)
        self._expected = weight_shapes(self._config)
        arguments = _engine_arguments(hardware, self._config, self.longest)
        if hardware.worker_copies > 1 and hardware.worker != "cpu":
            memory = torch.cuda.get_device_properties(0).total_memory
            logits = hardware.max_sequences * self.vocabulary
            arguments["kv_cache_memory_bytes"] = cache_bytes(
                memory, hardware, torch_dtype(dtype).itemsize, self._expected, logits
            )
        with _phases_told(phase, arguments["enforce_eager"]):
            self._llm: Any = LLM(model=str(folder), dtype=dtype, **arguments)
        self.tokenizer = cast(TokenDecoder, load_tokenizer(folder))
        self._dtype = torch_dtype(dtype)
        self._end_ids = sorted(end_ids(folder))
        self._reader = WeightReader()
        self._numbers = itertools.count()
        settle_heap()

    def load(self, weights: WeightRef) -> None:
        """Load `weights` into the engine; see `Generator.load`.

        Names and shapes are checked before the reload, because a reload that fails half-way would damage the
        engine. After it, log-probs of a version in a folder are compared with those of transformers.
        Raises: WeightsRefused if the weights do not fit, cannot be loaded, or give other log-probs;
        RuntimeError if vLLM kept cached prefixes of older weights.
        """
        with transformers_alone(self._llm.llm_engine.vllm_config):
            model = None if is_slot(weights) else folder_model(Path(weights.location))
        tensors = named_tensors(weights, self._reader) if model is None else parameters(model)
        check_fit(tensors, self._expected, weights)
        try:
            self._llm.collective_rpc("load_version", args=(weights.arm, weights.version, weights.location))
        except (ValueError, KeyError, AssertionError) as error:
            reason = shorten(fault_of(error), LONGEST_REASON, placeholder=" …")
            raise WeightsRefused(
                f"vLLM cannot load the weights of this model ({reason}); "
                "start a run with hardware.generator=transformers"
            ) from error
        if not self._llm.reset_prefix_cache(reset_running_requests=True):
            raise RuntimeError("vLLM kept its prefix cache: completions would mix old and new weights")
        if model is not None:
            check_agreement(self.score, model, self.vocabulary, self._dtype)

    def generate(self, waiting: deque[GenerationRequest], sampling: Sampling) -> Iterator[list[Generated]]:
        """Generate the `waiting` requests; see `Generator.generate`.

        Each completion is one request of the engine, which batches them.
        """
        engine = self._llm.llm_engine
        running: dict[str, GenerationRequest] = {}
        try:
            while waiting or running:
                for _ in range(min(len(waiting), ADDED_A_STEP)):
                    request, number = waiting.popleft(), str(next(self._numbers))
                    prompt = {"prompt_token_ids": request.token_ids.tolist()}
                    engine.add_request(number, prompt, self._parameters(request, sampling))
                    running[number] = request
                outputs = [output for output in engine.step() if output.finished]
                yield [
                    self._generated(running.pop(output.request_id), output.outputs[0]) for output in outputs
                ]
        finally:
            if running:
                engine.abort_request(list(running))

    def score(self, requests: Sequence[ScoringRequest]) -> Iterator[list[Score]]:
        """Compute log-probs of given texts; see `Generator.score`.

        Each text is one request. Texts that differ only in the last token share one.
        """
        engine = self._llm.llm_engine
        waiting = deque(readings(requests))
        running: dict[str, Reading] = {}
        try:
            while waiting or running:
                for _ in range(min(len(waiting), ADDED_A_STEP)):
                    text, number = waiting.popleft(), str(next(self._numbers))
                    engine.add_request(number, *_scoring(text))
                    running[number] = text
                outputs = [output for output in engine.step() if output.finished]
                yield [
                    score for output in outputs for score in _scores(running.pop(output.request_id), output)
                ]
        finally:
            if running:
                engine.abort_request(list(running))

    def close(self) -> None:
        """Stop the engine and the processes that it started."""
        self._llm.llm_engine.engine_core.shutdown()
        self._reader.close()

    def _parameters(self, request: GenerationRequest, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=request.seed if sampling.temperature else None,
            # Of the drawn token only.
            logprobs=0,
            flat_logprobs=True,
            stop_token_ids=self._end_ids,
            stop=list(sampling.stop),
            detokenize=bool(sampling.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _generated(self, request: GenerationRequest, output: Any) -> Generated:
        ids = np.array(output.token_ids, dtype=np.int32)
        logprobs = np.array(output.logprobs.logprobs, dtype=np.float32)
        finish: Finish = "stop" if output.finish_reason == "stop" else "length"
        return Generated(request.prompt, request.sample, ids, logprobs, finish)


def _scoring(text: Reading) -> tuple[dict[str, list[int]], Any]:
    """Return prompt and parameters of the request that scores `text`.

    One last token is scored as the next token of a prompt, which the prefix cache may hold. More tokens are
    scored as tokens of the prompt itself, and vLLM reads the prompt again for that.
    """
    from vllm import SamplingParams

    if text.start == len(text.token_ids):
        choices = sorted(set(text.last_ids))
        sampling = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=choices, detokenize=False)
        return {"prompt_token_ids": text.token_ids.tolist()}, sampling
    sampling = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    return {"prompt_token_ids": [*text.token_ids.tolist(), text.last_ids[0]]}, sampling


def _scores(text: Reading, output: Any) -> Iterator[Score]:
    """Yield the scores of the requests of `text` from vLLM's `output`."""
    if text.start == len(text.token_ids):
        answer = output.outputs[0]
        for place, last in zip(text.places, text.last_ids, strict=True):
            yield Score(place, float(answer.logprobs[0][last].logprob), answer.token_ids[0] == last)
        return
    ids = output.prompt_token_ids[text.start :]
    found = [at[token] for at, token in zip(output.prompt_logprobs[text.start :], ids, strict=True)]
    logprob, greedy = sum(each.logprob for each in found), all(each.rank == 1 for each in found)
    for place in text.places:
        yield Score(place, float(logprob), greedy)


def _engine_arguments(hardware: Hardware, config: Any, longest: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "load_format": "dummy",
        "worker_extension_cls": "engine.generators.vllm_extension.WeightVersions",
        # Raw log-probs ignore the temperature.
        "logprobs_mode": "processed_logprobs",
        # Only the job's settings apply.
        "generation_config": "vllm",
        # A scored text may be one token longer than `longest`, and vLLM generates one more.
        "max_model_len": min(longest + 2, positions_of(config)),
        "max_num_seqs": hardware.max_sequences,
        "tensor_parallel_size": hardware.worker_tensor_parallel,
        "enforce_eager": hardware.enforce_eager or hardware.worker == "cpu",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if hardware.worker == "cpu":
        arguments["kv_cache_memory_bytes"] = max(
            CPU_CACHE_BYTES, 2 * token_bytes(config, 4) * arguments["max_model_len"]
        )
    else:
        arguments["gpu_memory_utilization"] = hardware.gpu_memory_fraction
    return arguments


def weight_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the weights, without a tied head.

    transformers gives them.
    """
    return {name: tuple(parameter.shape) for name, parameter in empty_model(config).named_parameters()}


@contextmanager
def _phases_told(phase: Callable[[str, str], None], eager: bool) -> Iterator[None]:
    """Report each start-up phase from vLLM's log, inside the context.

    A phase is reported when it begins.
    Records are intercepted at their creation, because vLLM configures logging again during start-up,
    which drops every handler.
    """
    left = list(PHASES[:1] if eager else PHASES)
    before = logging.getLogRecordFactory()

    def seen(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        if record.name.startswith("vllm"):
            message = record.getMessage()
            # Nothing compiles before it loads.
            reachable = left[:1] if len(left) == len(PHASES) else left
            for entry in [entry for entry in reachable if entry[0] in message][:1]:
                left.remove(entry)
                phase(entry[1], message)
        return record

    logging.setLogRecordFactory(seen)
    try:
        yield
    finally:
        left.clear()
        # Otherwise vLLM has wrapped the factory permanently.
        if logging.getLogRecordFactory() is seen:
            logging.setLogRecordFactory(before)


# mypy checks here that the class has every method of the protocol, with the same types.
_generator: type[Generator] = VllmGenerator
