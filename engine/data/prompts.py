"""From a question to the text that a model is given, and from a worked solution to the text that it should give.

Two forms: `chat`, the tokenizer's own chat template, and `plain`, `Question: …\\nAnswer:`. Training and generation use
the same functions; engine/data/encoding.py makes token ids of the texts. Imports no model library.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from engine.data.rows import Row
from engine.grading.extraction import boxes

_CALCULATION = re.compile(r"<<[^<>\n]*>>")
_FINAL_LINE = re.compile(r"\n*####[^\n]*\s*\Z")


def wants_box(instruction: str) -> bool:
    """True where the instruction asks for `\\boxed{}`; solutions end in `#### N` otherwise."""
    return "\\boxed" in instruction


def worked(row: Row, instruction: str) -> str:
    """Return the row's own solution without calculator marks, its answer in the form that `instruction` asks for.

    A row without a solution gives the answer alone.
    """
    text = _CALCULATION.sub("", row.solution)
    marked, boxed = bool(_FINAL_LINE.search(text)), bool(boxes(text)[0])
    if (marked and not wants_box(instruction)) or (boxed and not marked):
        return text
    return ended(_FINAL_LINE.sub("", text), row.answer, instruction)


def ended(text: str, answer: str, instruction: str) -> str:
    """Return `text` with `answer` at its end in the form that `instruction` asks for."""
    end, joint = (f"\\boxed{{{answer}}}", "\n\n") if wants_box(instruction) else (f"#### {answer}", "\n")
    return f"{text}{joint}{end}" if text else end


def prompt_text(
    tokenizer: Any, question: str, template: str, instruction: str = "", shots: Sequence[Row] = ()
) -> str:
    """What the model is given for `question`, worked examples before it. ValueError: no chat template to be had."""
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
    """What the model should go on with after the prompt; the end-of-sequence id comes behind it."""
    return f" {solution.strip()}" if template == "plain" else solution.strip()


def prompt_end(tokenizer: Any, template: str, instruction: str = "") -> str:
    """Return the text that follows the question in every prompt: what an answer continues."""
    probe = "What is 17 + 4?"
    return prompt_text(tokenizer, probe, template, instruction).rpartition(probe)[2]
