"""A vLLM server of one model, independent of any run and of the terminal.

    start ─▶ HOME/servers/PORT.json (facts), PORT.log (output, of bounded size) ─▶ await_ready ─▶ stop

The server is ready when the right model answers. It has its own session, so it outlives the terminal and all
its processes stop together: vLLM's processes would outlive one another.

It listens on this machine only. On another address it needs a key. vLLM receives the key through the
environment, because every user of the machine can read a command line.
"""

from __future__ import annotations

import ipaddress
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from engine.artifacts import arms, digests
from engine.context import StageFailed
from engine.errors import LaunchError
from engine.ipc import log_parts
from engine.ipc.no_bars import NO_BARS
from engine.ipc.pidfile import Process
from engine.machine.gpus import GpuClaim, GpuQueue, visible_gpus
from engine.server_client.key import KEY_VARIABLE, server_key
from engine.server_client.models import served_names
from engine.startup import server_log
from engine.startup.preflight import checked_model
from profiles.errors import OperationFailed
from store import isolated
from store.home import RunFolder
from store.private import make_folder, opener, write_text
from store.run_config import read_config

HOST = "127.0.0.1"
NO_BAR = "--no-use-tqdm-on-load"
LOOK_SECONDS = 0.5
END_SECONDS = 15.0
CPU_ENVIRONMENT = {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
CPU_ARGUMENTS = ["--enforce-eager", "--dtype", "float32", "--kv-cache-memory-bytes", str(64 << 20)]


class ServerFailed(OperationFailed, RuntimeError):
    """A started server does not work; the message gives reason and log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started here.

    Attributes:
        model: the folder or hub name that it loaded.
        name: the name under which it serves the model.
        started: start time of process `pid` in clock ticks since boot, in case the pid is reused.
        log: path of its log.
    """

    # Folder or hub name.
    model: str
    # The model name in requests.
    name: str
    port: int
    pid: int
    started: int
    log: str
    # The address on which it listens.
    host: str = HOST

    @property
    def url(self) -> str:
        """Return the base URL of its API (…/v1) for clients on this machine."""
        return _url(self.host, self.port)

    @property
    def process(self) -> Process:
        """Return the server's first process."""
        return Process(self.pid, self.started)


def located(home: Path, run_id: str, arm: str, step: int | None) -> str:
    """Return the checkpoint folder of a run's arm.

    It is the one used for evaluation, or that of `step`.

    Raises: LaunchError if the run has no such arm or checkpoint.
    """
    folder = RunFolder(home, run_id)
    profile = read_config(folder.config).valid_profile
    try:
        if step is None:
            return arms.standing(folder, profile, profile.arm(arm))[0]
        steps = {arms.step_of(path): path for path in arms.checkpoints(folder, arm)}
        return str(steps[step])
    except StageFailed as error:
        raise LaunchError(str(error)) from None
    except KeyError:
        what = f"arm {arm}" if step is None else f"checkpoint {arm}@{step}"
        raise LaunchError(f"run {run_id}: it has no {what}") from None


def _spawned(
    program: list[str], options: list[str], gpu: int, locks: Sequence[int], log: Path
) -> subprocess.Popen[bytes]:
    """Return the server's process, which inherits the GPU's `locks`.

    Without any locks it runs on the CPU.
    """
    own, environment = CPU_ARGUMENTS, CPU_ENVIRONMENT
    if locks:
        own, environment = [], {"CUDA_VISIBLE_DEVICES": _device(gpu), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    log_parts.remove_parts(log)
    # Rotation needs a writer that appends.
    with open(log, "ab", opener=opener) as output:
        return subprocess.Popen(
            [*program, *own, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=locks,
            env={**isolated.environment(), **NO_BARS, **environment, **_key()},
        )


def start(
    home: Path,
    model: str,
    name: str,
    port: int,
    gpu: int = 0,
    arguments: Sequence[str] = (),
    host: str = HOST,
) -> Server:
    """Start a server of `model` under `name` on GPU `gpu`.

    On a machine without GPUs it runs on the CPU. The server holds the GPU's lock as a run does.

    Args:
        arguments: passed to vLLM unchanged.
    Raises: LaunchError if the server cannot be started, if `host` is not loopback and no key is set, or if a
        file of the model is damaged.
    """
    _check_address(host, arguments)
    if find_spec("vllm") is None:
        raise LaunchError("serve: vLLM is not installed; pip install 'mathrl-tui[gpu]'")
    if _is_taken(host, port):
        raise LaunchError(f"port {port}: another server uses it; give another --port")
    # vLLM itself reports a model that it cannot download.
    checked_model(model, field="serve ", is_used=False)
    _check_files(model)
    claim = _claimed(gpu)
    folder = home / "servers"
    make_folder(folder)
    log = folder / f"{port}.log"
    # The address comes last, because vLLM uses the last value of a repeated option.
    options = [*arguments, "--host", host, "--port", str(port)]
    process = _spawned(command(model, name), options, gpu, claim.descriptors, log)
    claim.release()
    server = Server(model, name, port, process.pid, Process.of(process.pid).started, str(log), host)
    write_text(folder / f"{port}.json", json.dumps(asdict(server)))
    server_log.start(server.process, log)
    return server


def _key() -> dict[str, str]:
    """Return the environment through which vLLM requires the key.

    The key may also come from `.env`.
    """
    key = server_key()
    return {KEY_VARIABLE: key} if key else {}


def command(model: str, name: str) -> list[str]:
    """Return the command line of vLLM's own server, without host and port.

    `model` is a folder or a hub name; clients ask for `name`.
    """
    program = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"]
    return [*program, "--model", model, "--served-model-name", name, NO_BAR]


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches a server on `host`.

    Returns: False for names except localhost.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_address(host: str, arguments: Sequence[str]) -> None:
    own = {"--host": "--host", "--port": "--port", "--api-key": f"the variable {KEY_VARIABLE}"}
    for argument in arguments:
        option = argument.partition("=")[0]
        if option in own:
            raise LaunchError(f"serve --vllm {option}: use {own[option]} of `serve` instead")
    if not is_loopback(host) and not server_key():
        raise LaunchError(
            f"serve --host {host}: other machines could use the server without a key; set one in {KEY_VARIABLE}, "
            "or leave --host out"
        )


def _check_files(model: str) -> None:
    """Raise LaunchError if a file of the model differs from its digest."""
    if not Path(model).is_dir():
        return
    try:
        digests.check(Path(model), digests.of_model)
    except digests.DamagedFile as error:
        raise LaunchError(f"serve: {error}") from None
    except OSError as error:
        raise LaunchError(f"serve: {error.filename or model} cannot be read: {error.strerror}") from None


def await_ready(server: Server, seconds: float) -> None:
    """Wait until the server lists its model.

    Raises: ServerFailed if the server exits, another server uses its port, or `seconds` have passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        names = served_names(server.url)
        if names and server.name not in names:
            raise ServerFailed(
                f"port {server.port}: {', '.join(names)} answers there, not {server.name}; give another --port"
            )
        if not has_ended(server) and names:
            return
        if has_ended(server):
            raise ServerFailed(
                f"serve {server.model}: vLLM ended: {_last_words(server)}; its log is {server.log}"
            )
        if time.monotonic() >= deadline:
            raise ServerFailed(
                f"serve {server.model}: not ready after {seconds:.0f} s; see {server.log}, or --stop it"
            )
        select.select([], [], [], LOOK_SECONDS)


def servers(home: Path) -> list[Server]:
    """Return the running servers of this home, ordered by port."""
    found = [
        Server(**json.loads(path.read_text(encoding="utf-8"))) for path in (home / "servers").glob("*.json")
    ]
    return sorted((server for server in found if not has_ended(server)), key=lambda server: server.port)


def stop(server: Server) -> None:
    """Stop the server and all its processes: SIGTERM, then SIGKILL.

    It waits at most END_SECONDS after each signal for them to exit.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _signalled(server, number):
            return
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            if not _signalled(server, 0):
                return
            select.select([], [], [], LOOK_SECONDS / 10)


def has_ended(server: Server) -> bool:
    """Return True if the server's first process has exited.

    It is reaped if it is a child of this process.
    """
    # Another process may have started the server; then it is not a child of this one.
    with suppress(ChildProcessError):
        os.waitpid(server.pid, os.WNOHANG)
    return not server.process.is_alive


def lm_eval_command(server: Server, task: str = "gsm8k", shots: int = 8, limit: int = 1024) -> str:
    """Return the lm-eval command that evaluates the server.

    It needs lm-eval[api].
    """
    model = f"model={server.name},base_url={server.url}/completions,tokenizer={server.model}"
    words = ["lm-eval", "run", "--model", "local-completions"]
    words += ["--model_args", f"{model},num_concurrent=32,max_retries=3,tokenized_requests=False"]
    words += ["--tasks", task, "--num_fewshot", str(shots), "--gen_kwargs", f"max_gen_toks={limit}"]
    line = shlex.join([*words, "--log_samples", "--output_path", "lm-eval-results"])
    return f'OPENAI_API_KEY="${KEY_VARIABLE}" {line}' if server_key() else line


def _claimed(gpu: int) -> GpuClaim:
    """Claim the GPU's lock as a run does.

    Nothing is claimed on a machine without GPUs.
    """
    found = {each.index: each.uuid for each in visible_gpus()}
    if found and gpu not in found:
        raise LaunchError(f"--gpu {gpu}: this machine has {', '.join(map(str, found))}")
    waiting = GpuQueue([found[gpu]] if found else [])
    claim = waiting.claim()
    waiting.leave()
    if claim is None:
        raise LaunchError(f"--gpu {gpu}: a run or another server uses it; give another, or wait")
    return claim


def _device(gpu: int) -> str:
    """Return the CUDA_VISIBLE_DEVICES entry that shows only GPU `gpu`."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(gpu) if visible is None else visible.split(",")[gpu].strip()


def _is_taken(host: str, port: int) -> bool:
    try:
        socket.create_connection((_reached(host), port), timeout=LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def _url(host: str, port: int) -> str:
    name = _reached(host)
    return f"http://[{name}]:{port}/v1" if ":" in name else f"http://{name}:{port}/v1"


def _reached(host: str) -> str:
    """Return the address at which this machine reaches a server on `host`.

    `host` may also be a wildcard address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host or HOST
    if address.is_unspecified:
        return HOST if address.version == 4 else "::1"
    return host


def _signalled(server: Server, number: int) -> bool:
    """Signal the server's session.

    Returns: False if none of its processes is left.
    """
    has_ended(server)
    try:
        os.killpg(server.pid, number)
    except ProcessLookupError:
        return False
    return True


def _last_words(server: Server) -> str:
    log = Path(server.log)
    parts = (part for part in (log_parts.part_before(log), log) if part is not None)
    lines = "".join(part.read_text(encoding="utf-8", errors="replace") for part in parts).split("\n")
    errors = [line for line in lines if "Error" in line]
    return (errors or [line for line in lines if line.strip()] or ["without a message"])[-1].strip()
