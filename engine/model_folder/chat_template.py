"""Render a folder's chat template without loading transformers.

The test prompts are those of the profile, with a question that occurs in no template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.data.prompts import prompt_text
from engine.data.rows import DataRow
from engine.model_folder.reading import FolderFault, ModelFolder
from engine.model_folder.tokenizer_settings import chat_template, special_tokens
from profiles.schema import Profile

QUESTION = "What is 90817 plus 26354?"
# Errors that a template can raise besides its own, depending on what it does with the messages.
ERRORS = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


def check_chat_template(folder: ModelFolder, profile: Profile) -> None:
    """Check that the template makes a prompt with the question.

    The messages are those of the profile.
    Raises: FolderFault if it does not.
    """
    if "chat" not in {profile.preprocess.template, *profile.eval.templates}:
        return
    if folder.partial and not folder.has("tokenizer_config.json"):
        return
    template = chat_template(folder)
    if template is None:
        raise FolderFault(
            "tokenizer_config.json: the tokenizer has no chat template; --set preprocess.template=plain"
            f"{' (and eval.templates)' if profile.eval.templates else ''}"
        )
    instruction = profile.preprocess.system_prompt
    special = special_tokens(folder)
    tokenizer, end = TemplateAlone(template, special), special.get("eos_token")
    example = DataRow("", "1 + 1?", "It is 2.\n#### 2", "2")
    for shots in sorted({0, *profile.eval.shots}):
        try:
            prompt = prompt_text(tokenizer, QUESTION, "chat", instruction, [example] * shots)
        except ERRORS as error:
            raise FolderFault(_refusal(tokenizer, instruction, error)) from None
        _check_prompt(prompt, end)


def _check_prompt(prompt: str, end: str | None) -> None:
    """Raise FolderFault if the prompt lacks the question or ends with `end`."""
    if QUESTION not in prompt:
        raise FolderFault(
            "chat template: its prompt does not contain the question; correct the template, or "
            "--set preprocess.template=plain"
        )
    if end is not None and prompt.endswith(end):
        raise FolderFault(
            f"chat template: ends a prompt with the end-of-sequence token {end}, so no answer can follow; add "
            "a generation prompt to it, or --set preprocess.template=plain (and eval.templates)"
        )


class TemplateAlone:
    """The part of a tokenizer that a chat prompt needs.

    `apply_chat_template` raises what the template raises.
    """

    def __init__(self, template: str, special: dict[str, str | None]) -> None:
        self.chat_template = template
        self._special = {name: token for name, token in special.items() if token is not None}

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **options: Any) -> str:
        """Return the prompt's text; see the method of this name in transformers."""
        made = _environment().from_string(self.chat_template)
        wanted = {"tools": None, "documents": None, "add_generation_prompt": options["add_generation_prompt"]}
        return made.render(messages=list(messages), **wanted, **self._special)


class _Generation(Extension):
    """The tag `generation`, which leaves the text of an answer unchanged."""

    tags = {"generation"}  # noqa: RUF012, as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the environment in which transformers renders chat templates."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = datetime.now().strftime
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _refusal(tokenizer: TemplateAlone, instruction: str, error: Exception) -> str:
    """Return the message for a template that raises `error`.

    It blames the system prompt if the template works without one.
    """
    reason = (str(error) or type(error).__name__).partition("\n")[0]
    try:
        prompt_text(tokenizer, QUESTION, "chat", "")
    except ERRORS:
        return f"chat template: cannot be rendered ({reason}); --set preprocess.template=plain"
    cause = "refuses preprocess.system_prompt" if instruction else "cannot be rendered"
    return f"chat template: {cause} ({reason}); --set preprocess.system_prompt= or preprocess.template=plain"
