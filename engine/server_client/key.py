"""The API key of model servers, from the environment or a `.env` file."""

from __future__ import annotations

from store.env_file import setting

# The variable that vLLM itself reads.
KEY_VARIABLE = "VLLM_API_KEY"


def server_key() -> str:
    """Return the API key for model servers; "" if none is set.

    Servers that are started here require it, and requests to servers contain it.

    Raises: EnvFileFault if it is looked up in a `.env` that cannot be read.
    """
    return setting(KEY_VARIABLE)
