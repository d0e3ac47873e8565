r"""Convert questions to prompts, and worked solutions to answers.

There are two forms: `chat`, the tokenizer's own chat template, and `plain`, `Question: …\nAnswer:`. Training
and generation use the same functions. engine/data/encoding.py converts the texts to token ids.
This module imports no model library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from engine.data.rows import DataRow
from engine.grading.extraction import boxes

_CALCULATION = re.compile(r"<<[^<>\n]*>>")
_FINAL_LINE = re.compile(r"\n*####[^\n]*\s*\Z")


def wants_box(instruction: str) -> bool:
    r"""Return True if the instruction requests `\boxed{}`.

    Otherwise solutions end in `#### N`.
    """
    return "\\boxed" in instruction


def worked(row: DataRow, instruction: str) -> str:
    """Return the row's own solution without calculator marks.

    Its answer has the form that `instruction` requests. A row without a solution gives only the answer.
    """
    text = _CALCULATION.sub("", row.solution)
    marked, boxed = bool(_FINAL_LINE.search(text)), bool(boxes(text)[0])
    if (marked and not wants_box(instruction)) or (boxed and not marked):
        return text
    return ended(_FINAL_LINE.sub("", text), row.answer, instruction)


def ended(text: str, answer: str, instruction: str) -> str:
    """Append `answer` to `text`, in the form that `instruction` requests.

    It is appended even if `text` already ends with it.
    """
    end, joint = (f"\\boxed{{{answer}}}", "\n\n") if wants_box(instruction) else (f"#### {answer}", "\n")
    return f"{text}{joint}{end}" if text else end


def prompt_text(
    tokenizer: Any, question: str, template: str, instruction: str = "", shots: Sequence[DataRow] = ()
) -> str:
    """Return the prompt for `question`, with worked examples before it.

    Raises: ValueError if the tokenizer has no chat template.
    """
    if template == "plain":
        parts = [f"{instruction}\n\n"] if instruction else []
        parts += [f"Question: {shot.question}\nAnswer: {worked(shot, instruction)}\n\n" for shot in shots]
        return "".join(parts) + f"Question: {question}\nAnswer:"
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "the tokenizer has no chat template; set preprocess.template=plain (and eval.templates)"
        )
    messages = [{"role": "system", "content": instruction}] if instruction else []
    for shot in shots:
        messages.append({"role": "user", "content": shot.question})
        messages.append({"role": "assistant", "content": worked(shot, instruction)})
    messages.append({"role": "user", "content": question})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def answer_text(template: str, solution: str) -> str:
    """Return the text that the model should generate after the prompt.

    The end-of-sequence id follows it.
    """
    return f" {solution.strip()}" if template == "plain" else solution.strip()


def prompt_end(tokenizer: Any, template: str, instruction: str = "") -> str:
    """Return the text after the question in every prompt.

    An answer continues this text.
    """
    probe = "What is 17 + 4?"
    return prompt_text(tokenizer, probe, template, instruction).rpartition(probe)[2]
