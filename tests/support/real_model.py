"""The real model of the tests marked `real_model`, and questions for it.

MATHRL_REAL_MODEL names its folder: an instruction-tuned model with a chat template; `.ci/real_model.py` makes one.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from engine.context import Context
from engine.stages import stage
from profiles.load import load
from tests.support.stage_context import make_context

FOLDER = Path(os.environ.get("MATHRL_REAL_MODEL") or "no-real-model")

marks = [
    pytest.mark.real_model,
    pytest.mark.skipif(not (FOLDER / "config.json").is_file(), reason="MATHRL_REAL_MODEL names no model"),
]

PROFILE = f"""
name = "real"
[model]
source = "{FOLDER}"
compute_dtype = "float32"
[hardware]
trainer = "cpu"
worker = "cpu"
generator = "transformers"
trainer_threads = 1
worker_threads = 1
max_model_len = 512
[data]
validation_rows = 1
[traces]
source = "solutions"
[preprocess]
max_tokens = 256
[grpo]
max_new_tokens = 24
[eval]
max_new_tokens = 24
[[arms]]
name = "base"
stage = "none"
[[arms]]
name = "sft"
stage = "sft"
parent = "base"
[[arms]]
name = "grpo"
stage = "grpo"
parent = "base"
"""

TRAIN = (
    (
        "A baker makes 12 loaves in the morning and half as many after lunch. How many does he make that day?",
        "After lunch he makes 12 / 2 = <<12/2=6>>6 loaves.\nTogether that is 12 + 6 = <<12+6=18>>18.\n#### 18",
    ),
    (
        "Lena saves $4.50 a week. How much has she after 6 weeks, if she spends $7 of it on a gift?",
        "She saves 4.50 * 6 = $<<4.5*6=27>>27.\nAfter the gift she has 27 - 7 = $<<27-7=20>>20.\n#### 20",
    ),
    (
        "A tank holds 1,250 litres; 380 litres are pumped out. How many are left?",
        "There are 1250 - 380 = <<1250-380=870>>870 litres left.\n#### 870",
    ),
    (
        "Three buses carry 41, 38 and 45 pupils to the café in Zürich. What is the mean number on a bus?",
        "41 + 38 + 45 = <<41+38+45=124>>124 pupils ride on 3 buses.\nThe mean is 124 / 3 ≈ 41.3.\n#### 41.3",
    ),
    (
        "What is 15% of 240?",
        "15 / 100 * 240 = <<15/100*240=36>>36\n#### 36",
    ),
    (
        "Tom is 9. His aunt is four times as old, less 3 years. How old is she?",
        "Four times 9 is 4 * 9 = <<4*9=36>>36, and 36 - 3 = <<36-3=33>>33.\n#### 33",
    ),
    (
        "A rope of 7 m is cut into pieces of 0.35 m. How many pieces are there?",
        "7 / 0.35 = <<7/0.35=20>>20 pieces.\n#### 20",
    ),
)
TEST = (
    ("What is 2 + 3?", "2 + 3 = <<2+3=5>>5\n#### 5"),
    (
        "Nora reads 20 pages a day. How many pages does she read in 5 days?",
        "20 * 5 = <<20*5=100>>100\n#### 100",
    ),
    ("A dozen eggs cost $3. What do 4 dozen cost?", "4 * 3 = $<<4*3=12>>12\n#### 12"),
)


def without_marks(question: str) -> str:
    """The written solution to a question of the training file, without calculator marks."""
    return re.sub("<<.*?>>", "", dict(TRAIN)[question])


def write_rows(folder: Path) -> None:
    """Write the questions above to `folder` in GSM8K's form."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", TRAIN), ("test", TEST)):
        lines = [json.dumps({"question": question, "answer": answer}) for question, answer in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def prepared(folder: Path, *settings: str) -> Context:
    """Return a run in `folder` whose questions have gone through data, traces and preprocess."""
    write_rows(folder / "rows")
    profile = folder / "real.toml"
    profile.write_text(PROFILE)
    source = f"data.source={folder / 'rows'}"
    context, _ = make_context(folder / "home", load(str(profile), (source, *settings)))
    for name in ("data", "traces", "preprocess"):
        stage(name)(replace(context, stage=name))
    return context


def tokenizer() -> Any:
    """Load the model's tokenizer by transformers alone."""
    return AutoTokenizer.from_pretrained(FOLDER)


def plain_model() -> PreTrainedModel:
    """Load the model by transformers alone, in float32 with its own eager attention.

    It sets torch to one thread, as several test processes run side by side.
    """
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager")
