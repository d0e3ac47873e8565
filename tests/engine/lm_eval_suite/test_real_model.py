"""The suite's rows of a real model against those of lm-eval's own Hugging Face model, document by document."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from engine.generators.transformers import TransformersGenerator
from engine.lm_eval_suite.evaluate import evaluate
from engine.lm_eval_suite.model import GeneratorModel
from engine.protocol.messages import SuiteTask, WeightRef
from tests.support import places, real_model

ROWS = places.SHARED / "data/lm_eval"
# Task, its definition in lm-eval, the split it asks, documents, the longest row taken in characters, worked examples.
# HellaSwag's documents are the longest, so it has fewer of them.
TASKS = (
    ("arc_challenge", "arc/arc_challenge.yaml", "test", 100, 300, 0),
    ("hellaswag", "hellaswag/hellaswag.yaml", "validation", 60, 550, 0),
    ("winogrande", "winogrande/default.yaml", "validation", 100, 170, 1),
)
SEED = 5
LONGEST = 512
Likelihoods = list[tuple[float, bool]]

pytestmark = [
    *real_model.marks,
    pytest.mark.shared,
    pytest.mark.skipif(not ROWS.is_dir(), reason="MATHRL_SHARED names no folder with the suite's rows"),
]


class Recorded(GeneratorModel):
    """Our model for lm-eval; it keeps the log-likelihoods that it gave, in the order of the requests."""

    answers: Likelihoods

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> Likelihoods:
        self.answers = super().loglikelihood(requests, disable_tqdm)
        return self.answers


def write_documents(folder: Path, task: str, split: str, count: int, longest: int) -> dict[str, Path]:
    """Write a seeded choice of a task's shorter rows to `folder`, its other splits whole; return the files."""
    lines = [line for line in (ROWS / task / f"{split}.jsonl").open() if len(line) <= longest]
    assert len(lines) > 2 * count
    (folder / task).mkdir(parents=True)
    files = {source.stem: folder / task / source.name for source in (ROWS / task).glob("*.jsonl")}
    for name, path in files.items():
        if name == split:
            path.write_text("".join(random.Random(SEED).sample(lines, count)))
        else:
            path.symlink_to(ROWS / task / path.name)
    return files


def theirs(
    folder: Path, model: Any, task: str, definition: str, files: dict[str, Path], shots: int
) -> list[Any]:
    """lm-eval's samples on the same rows, by the function behind its own command."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    folder.mkdir()
    included = Path(lm_eval.__file__).parent / "tasks" / definition
    splits = {"training_split": "train", "validation_split": "validation", "test_split": "test"}
    local = {
        "include": str(included),
        "task": f"local_{task}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {name: str(path) for name, path in files.items()}},
        **{field: name if name in files else None for field, name in splits.items()},
    }
    (folder / "local.yaml").write_text(yaml.safe_dump(local))
    results = lm_eval.simple_evaluate(
        model=model,
        tasks=[f"local_{task}"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        num_fewshot=shots,
        fewshot_random_seed=SEED,
        bootstrap_iters=0,
        log_samples=True,
    )
    return sorted(results["samples"][f"local_{task}"], key=lambda sample: int(sample["doc_id"]))


@pytest.mark.parametrize(
    ("task", "definition", "split", "count", "longest", "shots"), TASKS, ids=[task for task, *_ in TASKS]
)
def test_every_document_is_judged_as_by_lm_evals_own_model(
    models: tuple[TransformersGenerator, Any],
    tmp_path: Path,
    task: str,
    definition: str,
    split: str,
    count: int,
    longest: int,
    shots: int,
) -> None:
    files = write_documents(tmp_path / "rows", task, split, count, longest)
    generator, other = models
    model = Recorded(generator)
    asked = SuiteTask(
        name=task,
        recorded=task,
        shots=shots,
        documents=0,
        longest=8,
        shots_seed=SEED,
        seed=0,
        data=str(tmp_path / "rows"),
    )
    found = list(evaluate(model, asked, "base", 0))
    samples = theirs(tmp_path / "theirs", other, task, definition, files, shots)
    assert len(samples) == count

    expected = [answer for sample in samples for (answer,) in sample["resps"]]
    assert [greedy for _, greedy in model.answers] == [greedy for _, greedy in expected]
    values = [value for value, _ in expected]
    assert [value for value, _ in model.answers] == pytest.approx(values, rel=1e-5, abs=2e-3)
    for measure in samples[0]["metrics"]:
        recorded = task if measure == samples[0]["metrics"][0] else f"{task}/{measure}"
        scores = [row.score for row in found if row.task == recorded]
        assert scores == [sample[measure] for sample in samples], measure
        assert 0.1 < sum(scores) / count < 0.9


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Our CPU generator and lm-eval's model of the same folder, both float32."""
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
        ours = TransformersGenerator(real_model.FOLDER, "cpu", torch.float32, 32, LONGEST)
        ours.load(WeightRef("base", 0, str(real_model.FOLDER)))
        folder = str(real_model.FOLDER)
        yield ours, HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=32, max_length=LONGEST)
        ours.close()
