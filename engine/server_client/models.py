"""The models that an OpenAI-compatible server lists."""

from __future__ import annotations

from dataclasses import dataclass

from engine.context import StageFailed
from engine.server_client.errors import HttpStatus, NoAnswer, ServerError
from engine.server_client.key import KEY_VARIABLE, server_key
from store.env_file import EnvFileFault

LIST_SECONDS = 10.0
# HTTP statuses for a missing or wrong key.
REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server lists.

    `root` is the path or hub name that it was loaded from, "" if unknown.
    """

    name: str
    root: str


def served_models(url: str) -> list[ServedModel]:
    """Return the models that the server at `url` (…/v1) lists.

    Raises: ServerError if no such server answers.
    """
    # Late, because the command line imports this module, and openai takes 0.4 s of CPU.
    from engine.server_client.connection import ServerConnection

    with ServerConnection(url, server_key(), LIST_SECONDS) as server:
        found = server.get("/models")
    try:
        return [ServedModel(str(each["id"]), str(each.get("root") or "")) for each in found["data"]]
    except (LookupError, TypeError, AttributeError):
        raise NoAnswer("the answer is not a list of models", sent=True) from None


def served_names(url: str) -> list[str]:
    """Return the names of the models that the server at `url` (…/v1) lists.

    The list is empty if no such server answers.
    """
    try:
        return [model.name for model in served_models(url)]
    except ServerError:
        return []


def only_model(url: str) -> ServedModel:
    """Return the model of a server that serves exactly one.

    Raises: StageFailed if it serves none or several, or does not answer.
    """
    try:
        models = served_models(url)
    except HttpStatus as error:
        remedy = f"; set its key in {KEY_VARIABLE}" if error.status in REFUSED else "; see the server's log"
        raise StageFailed(f"eval.server {url}: HTTP {error.status} {error.reason}{remedy}") from None
    except EnvFileFault as error:
        raise StageFailed(f"eval.server {url}: {error}") from None
    except ServerError as error:
        raise StageFailed(f"eval.server {url}: no OpenAI-compatible server answers there: {error}") from None
    if len(models) != 1:
        names = ", ".join(model.name for model in models) or "none"
        raise StageFailed(f"eval.server {url}: serves {names}; it should serve one model")
    return models[0]
