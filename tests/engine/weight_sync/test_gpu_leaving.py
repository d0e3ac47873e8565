"""A GPU that a process has left, by the driver's own account of its memory. Needs a GPU."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

from engine.weight_sync.pages import pin_memory, release_gpu, unpin

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

GIB = 1 << 30


def _used() -> int:
    import pynvml

    pynvml.nvmlInit()
    used: int = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).used
    pynvml.nvmlShutdown()
    return used


def _leave_and_wait(pipe: Connection[Any, Any]) -> None:
    device = torch.device("cuda:0")
    content = torch.full((GIB,), 7, dtype=torch.uint8)
    pin_memory(content)
    on_gpu = torch.empty(GIB, dtype=torch.uint8, device=device)
    content.copy_(on_gpu.fill_(9))
    pipe.send("computed")
    pipe.recv()
    release_gpu(device)
    unpin(content)
    pipe.send(int(content.sum()))
    pipe.recv()


def test_a_process_that_left_has_nothing_on_the_gpu_and_keeps_what_it_copied() -> None:
    before = _used()
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_leave_and_wait, args=(there,))
    process.start()
    assert here.recv() == "computed"
    assert _used() - before > GIB
    here.send("leave")
    assert here.recv() == 9 * GIB
    assert _used() - before < GIB // 16  # its context is gone too
    here.send("end")
    process.join(60)
    assert process.exitcode == 0
