"""Machine settings from the environment or a `.env` file.

The `.env` file of the working directory is read if the variable is not set. Only the home ($MATHRL_HOME) and
API keys are looked up, one name at a time. Other entries of the file are ignored, and none enters the
environment. So a directory that another user filled controls only these settings.

An unreadable `.env` is an error when a setting is looked up in it. Without the file, a command would silently
use another home or no key. A setting from the environment or the command line needs no file.
"""

from __future__ import annotations

import os
import re
import stat
from codecs import BOM_UTF8
from pathlib import Path

from profiles.errors import UserError

MOST_BYTES = 1 << 20
_ENTRY = re.compile(
    r"\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<value>'[^']*'|\"[^\"]*\"|[^\s#].*?|)(?:\s+#.*)?\s*\Z"
)


class EnvFileFault(UserError, RuntimeError):
    """A `.env` exists but cannot be read.

    The message gives the reason and what to do.
    """


def setting(name: str, folder: Path | None = None) -> str:
    """Return the environment variable `name`, else its value in `.env`.

    Args:
        folder: directory of the `.env` file; None for the working directory.
    Returns: "" if the setting is missing or empty.
    Raises: EnvFileFault if the setting is looked up in a file that cannot be read.
    """
    return os.environ.get(name, "").strip() or read_env_file((folder or Path()) / ".env").get(name, "")


def read_env_file(path: Path) -> dict[str, str]:
    """Return the NAME=value lines of a `.env` file.

    Quotes and comments are removed.

    Returns: an empty dict if the file does not exist.
    Raises: EnvFileFault if there is a file, but it cannot be read as text.
    """
    try:
        content = _content(path)
    except OSError as error:
        raise _fault(path, error.strerror or str(error)) from None
    # Editors on Windows write a BOM.
    lines = content.removeprefix(BOM_UTF8).splitlines()
    entries = (_ENTRY.match(_text(path, number, line)) for number, line in enumerate(lines, 1))
    return {entry["name"]: entry["value"].strip("'\"") for entry in entries if entry}


def _text(path: Path, number: int, line: bytes) -> str:
    """Decode a line; comments may be in any encoding."""
    if line.lstrip().startswith(b"#"):
        return ""
    if b"\0" in line:
        raise _fault(path, f"line {number} contains a NUL")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise _fault(path, f"line {number} is not UTF-8") from None


def _content(path: Path) -> bytes:
    """Return the bytes of the file; empty if it does not exist.

    Raises: OSError or EnvFileFault if it cannot be read.
    """
    try:
        # A FIFO without a writer would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise _fault(path, f"it is a link to {path.readlink()}, which does not exist") from None
        return b""
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return _read(path, descriptor)
    finally:
        os.close(descriptor)
    # A container hides a file by mounting /dev/null over it. `python -m venv .env` makes a directory.
    if os.path.samestat(status, Path(os.devnull).stat()) or (path / "pyvenv.cfg").is_file():
        return b""
    raise _fault(path, "it is not a regular file")


def _read(path: Path, descriptor: int) -> bytes:
    content = b""
    while part := os.read(descriptor, MOST_BYTES):
        content += part
        if len(content) > MOST_BYTES:
            raise _fault(path, f"it is longer than {MOST_BYTES >> 20} MiB")
    return content


def _fault(path: Path, reason: str) -> EnvFileFault:
    return EnvFileFault(
        f"{path.absolute()}: cannot be read: {reason}; correct or remove it, or give --home and set keys in "
        "the environment"
    )
