"""Token ids of prompts from a server that offers `/tokenize`.

vLLM does.
A server adds its tokenizer's special tokens to text: a second BOS to the output of a chat template, and an
end-of-sequence token after the prompt if the tokenizer appends one. It adds nothing to ids.
"""

from __future__ import annotations

from engine.data.special_tokens import leading
from engine.protocol.messages import Prompt
from engine.server_client.connection import ANSWER_SECONDS, ServerConnection
from engine.server_client.key import server_key

_PROBE = "Question: 4 + 1 = ?"


class ServerTokenizer:
    """Encodes prompts for `model` of the server at `url` (…/v1).

    At most `in_flight` requests run at a time.     The constructor asks the server for the special tokens.
    Raises: ServerError, ValueError, LookupError or TypeError if the server offers no `/tokenize`.
    """

    def __init__(self, url: str, model: str, in_flight: int = 1) -> None:
        self._server = ServerConnection(url.removesuffix("/v1"), server_key(), ANSWER_SECONDS, in_flight)
        self._model = model
        self._leading = leading(self._ids(_PROBE, special=True), self._ids(_PROBE, special=False))

    def encode(self, prompt: Prompt) -> list[int]:
        """Return the ids of the prompt's text, with special tokens.

        They come first if the prompt's form does not include them.
        """
        ids = self._ids(prompt.text, special=False)
        return [*self._leading, *ids] if prompt.special else ids

    def _ids(self, text: str, special: bool) -> list[int]:
        body = {"model": self._model, "prompt": text, "add_special_tokens": special}
        return [int(token) for token in self._server.post("/tokenize", body)["tokens"]]
