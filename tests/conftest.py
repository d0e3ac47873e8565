"""What every test stands on: signals and environment as a person's shell leaves them.

A shell starts background jobs with Ctrl-C ignored, and nohup ignores that the terminal closed. Both are inherited, even
by the programs that the tests start and then press Ctrl-C on. So is the size of a terminal that some libraries put
into the environment, where it hides the size of the terminal that a program really has.
"""

import os
import signal
from collections.abc import Iterator

import pytest

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def one_check_for_each_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A model that has passed in one home has passed in all: a check starts a process that imports torch."""
    shared = tmp_path_factory.getbasetemp().parent / "model_check"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.startup.model_check.records", lambda home: shared)
        yield
