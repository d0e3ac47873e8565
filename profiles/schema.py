"""The fields of a profile: type, default, bounds, unit and meaning.

Sections follow the order of the experiment. Units are in the descriptions, which `mathrl-tui profiles show` prints.
The training sections are in profiles/training.py.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from profiles.section import Count, Positive, Rate, Section, UnitFraction
from profiles.stages import ARM_STAGES, RESERVED
from profiles.training import Grpo, Pretrain, Sft

SPLIT = r"^[^\[\]]+(\[(-?\d+%?)?:(-?\d+%?)?\])?$"


class Model(Section):
    """The model of the experiment."""

    source: str = Field(
        "Qwen/Qwen2.5-Math-1.5B", description="hub name, local folder, or 'made' for the demo model"
    )
    revision: str = Field("main", description="hub revision (a commit pins it)")
    compute_dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="dtype of forward and backward; master weights are always float32"
    )


class Hardware(Section):
    """Devices and processes of trainer and worker."""

    trainer: str = Field("cuda:0", pattern=r"^(cpu|cuda:\d+)$", description="device of the trainer")
    worker: str = Field("cuda:1", pattern=r"^(cpu|cuda:\d+)$", description="device of the worker")
    generator: Literal["vllm", "transformers"] = Field("vllm", description="generation library of the worker")
    trainer_processes: Positive = Field(
        1, description="trainer ranks under FSDP2; devices count up from `trainer`"
    )
    worker_tensor_parallel: Positive = Field(1, description="GPUs that share one copy of the worker's model")
    worker_data_parallel: Positive = Field(
        1, description="GPUs (or groups of worker_tensor_parallel GPUs) that generate independently"
    )
    worker_copies: Count = Field(
        0,
        description="copies of vLLM's model on each GPU; they share memory and max_sequences (0: chosen from memory)",
    )
    trainer_threads: Count = Field(0, description="CPU threads of the trainer (0: the library's choice)")
    worker_threads: Count = Field(0, description="CPU threads of the worker (0: the library's choice)")
    gpu_memory_fraction: Rate = Field(
        0.9, description="fraction of the worker's GPU memory that vLLM may use"
    )
    share_gpus: bool = Field(
        False,
        description="use the GPUs together with other runs that share them, as for several seeds of a small model; "
        "gpu_memory_fraction must leave them room (otherwise a run waits until its GPUs are free)",
    )
    max_sequences: Positive = Field(512, description="sequences that the worker generates concurrently")
    max_model_len: Positive = Field(
        4096, description="maximum length of prompt and completion together, tokens"
    )
    enforce_eager: bool = Field(
        False, description="vLLM without compilation and CUDA graphs: starts faster, runs slower"
    )
    price_per_hour: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        0.0, description="price of the machine, dollars per hour (0: not known)"
    )
    trainer_restarts: Count = Field(
        2,
        description="consecutive crashes without progress after which a trainer still restarts from its checkpoint",
    )
    worker_restarts: Count = Field(
        5, description="consecutive crashes without progress after which a worker still restarts"
    )


class RunLimits(Section):
    """What the supervisor does by itself while the run is live."""

    on_alarm: Literal["none", "pause", "stop"] = Field(
        "none",
        description="reaction to the first alarm: 'pause' after the step, or 'stop' with a checkpoint; every alarm is "
        "recorded in any case",
    )
    max_hours: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        0.0, description="hours after which the run stops with a checkpoint, from each start (0: no limit)"
    )
    max_cost: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = Field(
        0.0,
        description="cost after which the run stops, dollars: hours from each start × hardware.price_per_hour "
        "(0: no limit)",
    )


class Data(Section):
    """Questions and answers."""

    source: str = Field(
        "openai/gsm8k",
        description="hub name, 'word-problems', or a folder or file of rows: train and test as JSON lines, JSON array, "
        "CSV, TSV, Parquet or Arrow, in files or folders called like their split. A row has a question (problem, "
        "question, prompt, query, input, instruction; a context, passage, body or instruction stands before it) and an "
        "answer (answer, final_answer, expected_answer, ground_truth, gold, target, label, result: a number, one short "
        "line, or text ending in '#### N' or a box), a worked solution (solution, worked_solution, generated_solution, "
        "rationale, explanation, reasoning, response, output), or both; an answer is enough for grpo and eval",
    )
    config: tuple[str, ...] = Field(
        (),
        description="configurations of a hub set, or subfolders of a folder (empty: the usual ones, or all)",
    )
    train_split: str = Field(
        "train",
        pattern=SPLIT,
        description="split for training, validation and few-shot examples, or a part: NAME[:90%], NAME[500:]",
    )
    test_split: str = Field("test", pattern=SPLIT, description="held-out split, or a part of one")
    revision: str = Field("main", description="hub revision (a commit pins it)")
    seed: Count = Field(
        0,
        description="selects the questions: word problems, validation rows, few-shot examples, limited rows. The run's "
        "own seed changes none of them, so runs of several seeds can be pooled",
    )
    validation_rows: Positive = Field(
        512, description="rows of the training split reserved for validation, by data.seed"
    )
    train_limit: Count = Field(0, description="training rows to keep, by data.seed (0: all)")
    test_limit: Count = Field(0, description="test rows to keep, from the start (0: all)")
    train_rows: Positive = Field(
        4000, description="word-problems only: training rows to make, validation included"
    )
    test_rows: Positive = Field(600, description="word-problems only: held-out rows to make")
    platinum: bool = Field(False, description="also evaluate on GSM8K-Platinum (hub)")
    max_row_characters: Positive = Field(
        20_000, description="maximum length of a question or answer, characters; longer ones are rejected"
    )


class Traces(Section):
    """Worked solutions for SFT."""

    source: Literal["solutions", "api"] = Field(
        "api", description="'api': sampled from a teacher; 'solutions': the data set's own worked solutions"
    )
    base_url: str = Field(
        "https://api.deepseek.com", pattern=r"^https?://\S+$", description="an OpenAI-compatible endpoint"
    )
    model: str = Field("deepseek-reasoner", description="teacher model")
    api_key_variable: str = Field(
        "DEEPSEEK_API_KEY", description="environment variable (or .env entry) with the key"
    )
    body: Literal["reasoning", "answer", "both"] = Field(
        "reasoning",
        description="part of a teacher's message that becomes the trace: its reasoning (`reasoning_content`, "
        "`reasoning` or the part before </think>; the text of the answer if these are empty), its answer, or both; the "
        "trace ends with the final answer",
    )
    samples: Positive = Field(1, description="completions per question")
    max_tokens: Positive = Field(2048, description="maximum completion length with reasoning, tokens")
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = Field(0.6, description="sampling temperature")
    concurrency: Positive = Field(52, description="maximum number of requests in flight")
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        600.0, description="maximum wait for one answer, seconds"
    )
    attempts: Positive = Field(8, description="attempts before a question counts as failed")
    max_failed: UnitFraction = Field(
        0.01,
        description="maximum fraction of questions without an answer, rounded up to whole questions; above it the "
        "stage fails",
    )
    limit: Count = Field(0, description="questions that get a worked solution, by data.seed (0: all)")
    price_input: Annotated[float, Field(ge=0)] = Field(
        0.55, description="price per million prompt tokens, dollars"
    )
    price_output: Annotated[float, Field(ge=0)] = Field(
        2.19, description="price per million completion tokens, dollars"
    )
    spending_cap: Annotated[float, Field(gt=0)] = Field(
        50.0, description="spending limit, dollars; the stage stops before it exceeds this"
    )
    wrong_answers: Literal["keep", "drop", "mark"] = Field(
        "drop", description="what to do with wrong traces, or with the data set's own wrong solutions"
    )


class Preprocess(Section):
    """Conversion of text to token ids."""

    template: Literal["chat", "plain"] = Field(
        "chat", description="the tokenizer's chat template, or a plain question form"
    )
    system_prompt: str = Field(
        "Please reason step by step, and put your final answer within \\boxed{}.",
        description="system instruction (empty: none)",
    )
    max_tokens: Positive = Field(
        2048,
        description="maximum length of prompt and answer together, tokens; longer rows are cut and counted",
    )


class Eval(Section):
    """Evaluation of each arm."""

    max_new_tokens: Positive = Field(1024, description="maximum completion length, tokens")
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] = Field(
        0.0, description="sampling temperature (0: greedy)"
    )
    samples: Positive = Field(1, description="completions per question")
    shots: tuple[Count, ...] = Field(
        (0,), description="numbers of worked examples before the question; each number is one task"
    )
    templates: tuple[Literal["chat", "plain"], ...] = Field(
        (), description="prompt forms to evaluate (empty: that of preprocess)"
    )
    limit: Count = Field(0, description="test questions (0: all)")
    checkpoint: Literal["last", "best"] = Field(
        "last", description="which checkpoint of a trained arm to evaluate"
    )
    server: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="OpenAI-compatible server to use instead of the worker, http://HOST:PORT/v1 (empty: none)",
    )
    suite: tuple[str, ...] = Field((), description="lm-eval tasks of the regression watch")
    suite_shots: Count = Field(4, description="few-shot examples, if a suite task allows them")
    suite_limit: Count = Field(0, description="documents per suite task (0: all)")
    window: Positive = Field(
        4096,
        description="maximum text length in suite tasks, tokens: perplexity windows, few-shot prompts (lm-eval's "
        "max_length; a model with fewer positions shortens it; it must fit hardware.max_model_len)",
    )
    suite_data: str = Field("", description="folder of local rows for the suite (empty: the hub)")
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(
        0.95, description="coverage of the intervals of differences, a fraction (single rates: 95 %)"
    )
    resamples: Annotated[int, Field(ge=1000)] = Field(10_000, description="number of bootstrap resamples")
    margin: UnitFraction = Field(
        0.02, description="maximum tolerated loss on a capability task, a fraction (non-inferiority)"
    )

    @model_validator(mode="after")
    def _asks_each_task_once(self) -> Self:
        for field in ("shots", "templates"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                raise ValueError(f"eval.{field} lists a value twice: {', '.join(map(str, values))}")
        if not self.shots and not self.suite:
            raise ValueError(
                "eval.shots and eval.suite are both empty, so nothing would be measured; set one"
            )
        return self


class Arm(Section):
    """One model of the comparison: how it is made and from which parent."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9+._-]*$", description="name in addresses: RUN/NAME")
    stage: str = Field(
        pattern=f"^({'|'.join(ARM_STAGES)})$", description="stage that makes the arm from its parent"
    )
    parent: str = Field("", description="the arm it starts from (empty: model.source)")


DEFAULT_ARMS = (
    Arm(name="base", stage="none"),
    Arm(name="sft", stage="sft", parent="base"),
    Arm(name="grpo", stage="grpo", parent="base"),
    Arm(name="sft+grpo", stage="grpo", parent="sft"),
)


class Profile(Section):
    """The settings of one experiment."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the profile")
    description: str = Field("", description="one sentence")
    model: Model = Model()
    hardware: Hardware = Hardware()
    run: RunLimits = RunLimits()
    data: Data = Data()
    traces: Traces = Traces()
    preprocess: Preprocess = Preprocess()
    pretrain: Pretrain = Pretrain()
    sft: Sft = Sft()
    grpo: Grpo = Grpo()
    eval: Eval = Eval()
    arms: tuple[Arm, ...] = DEFAULT_ARMS

    def arm(self, name: str) -> Arm:
        """Return the arm called `name`.

        Raises: KeyError if the profile does not declare it.
        """
        return {arm.name: arm for arm in self.arms}[name]

    @model_validator(mode="after")
    def _arms_form_a_graph(self) -> Self:
        if not self.arms:
            raise ValueError("arms: the list is empty; declare at least the base model, with stage 'none'")
        seen: set[str] = set()
        for arm in self.arms:
            if arm.name in seen:
                raise ValueError(f"arms: {arm.name!r} is declared twice; arm names must differ")
            if arm.name in RESERVED:
                raise ValueError(f"arms: {arm.name!r} is the name of a stage; choose another name")
            if arm.parent and arm.parent not in seen:
                raise ValueError(
                    f"arms: {arm.name!r} starts from {arm.parent!r}, which is not declared before it"
                )
            if arm.stage not in ("none", "pretrain") and not arm.parent:
                raise ValueError(f"arms: {arm.name!r} needs a parent to start from")
            seen.add(arm.name)
        made = self.model.source == "made"
        if made and self.arms[0].stage == "none":
            raise ValueError(
                f"arms: the first arm {self.arms[0].name!r} has no model; put the arm of stage 'pretrain' first"
            )
        if made != any(arm.stage == "pretrain" for arm in self.arms):
            raise ValueError(
                "arms: an arm of stage 'pretrain' needs model.source = 'made', and 'made' needs such an arm"
            )
        return self

    @model_validator(mode="after")
    def _cost_has_a_price(self) -> Self:
        if self.run.max_cost and not self.hardware.price_per_hour:
            raise ValueError("run.max_cost needs hardware.price_per_hour, dollars per hour; set it")
        return self

    @model_validator(mode="after")
    def _sampling_fits_the_model(self) -> Self:
        longest = max(self.grpo.max_new_tokens, self.eval.max_new_tokens)
        if longest >= self.hardware.max_model_len:
            raise ValueError(
                f"hardware.max_model_len is {self.hardware.max_model_len}, but completions alone may take {longest} "
                "tokens; raise it or lower grpo.max_new_tokens and eval.max_new_tokens"
            )
        if self.grpo.prompts_per_step * self.grpo.group_size < self.grpo.minibatches:
            raise ValueError("grpo.minibatches is larger than the number of completions per step")
        return self
