"""Place the copies of a worker's model on devices.

Pure functions without heavy imports, because the supervisor calls them too.
"""

from __future__ import annotations

from profiles.schema import Hardware

# An idle trainer keeps its CUDA context and loaded kernels, up to 1.5 GiB together with the copy's own. vLLM
# refuses to start unless hardware.gpu_memory_fraction of the whole GPU is free. So a copy there requests at
# most this fraction, which leaves 2.4 GiB free on a GPU of 16 GiB and 12 GiB on one of 80 GiB.
BESIDE_A_TRAINER = 0.85


def placements(hardware: Hardware, trainer_idle: bool) -> list[Hardware]:
    """Return the hardware of each copy of the worker's model.

    Each of hardware.worker_data_parallel devices, counted up from the worker's, gets hardware.worker_copies.
    An idle trainer's GPUs get as many, if a copy fits on one GPU.
    """
    placed = [at_device(hardware, place) for place in range(hardware.worker_data_parallel)]
    if (
        trainer_idle
        and hardware.worker_tensor_parallel == 1
        and "cpu" not in (hardware.trainer, hardware.worker)
    ):
        taken = {each.worker for each in placed}
        first = int(hardware.trainer.removeprefix("cuda:"))
        spare = [f"cuda:{first + rank}" for rank in range(hardware.trainer_processes)]
        fraction = min(hardware.gpu_memory_fraction, BESIDE_A_TRAINER)
        placed += [
            hardware.model_copy(update={"worker": name, "gpu_memory_fraction": fraction})
            for name in spare
            if name not in taken
        ]
    return [share for each in placed for share in shares(each)]


def shares(hardware: Hardware) -> list[Hardware]:
    """Split one device's memory and sequences between its copies.

    A number of copies that is not computed yet (0) counts as one.
    """
    copies = max(1, hardware.worker_copies)
    part = hardware.model_copy(
        update={
            "gpu_memory_fraction": hardware.gpu_memory_fraction / copies,
            "max_sequences": -(-hardware.max_sequences // copies),
        }
    )
    return [part] * copies


def at_device(hardware: Hardware, place: int) -> Hardware:
    """Return the hardware of copy `place` of a generator.

    Its devices follow those of the copies before it.
    """
    if hardware.worker == "cpu":
        return hardware
    first = int(hardware.worker.removeprefix("cuda:")) + place * hardware.worker_tensor_parallel
    return hardware.model_copy(update={"worker": f"cuda:{first}"})
