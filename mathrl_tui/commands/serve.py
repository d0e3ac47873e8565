"""`serve`: a vLLM server of one model, for manual evaluations.

The server outlives the command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.options import Home


def serve(
    home: Home,
    model: Annotated[str, typer.Argument(help="RUN/ARM, RUN/ARM@STEP, a model folder or a hub name")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="port on this machine")] = 8000,
    host: Annotated[
        str, typer.Option(help="address to listen on; any other than this machine's own needs VLLM_API_KEY")
    ] = "127.0.0.1",
    gpu: Annotated[int, typer.Option(min=0, help="index of the GPU, if the machine has any")] = 0,
    name: Annotated[str, typer.Option(help="model name in the server's API [default: as given]")] = "",
    wait: Annotated[
        float, typer.Option(min=1, help="maximum wait until the server is ready, seconds")
    ] = 600.0,
    stop: Annotated[bool, typer.Option("--stop", help="stop the server of this model instead")] = False,
    vllm: Annotated[
        list[str] | None, typer.Option("--vllm", metavar="ARGUMENT", help="passed to vLLM; repeatable")
    ] = None,
) -> None:
    """Serve a model with vLLM until it is stopped.

    Prints the lm-eval command for it.
    """
    from engine.startup import serve as serving

    called = name or model
    if stop:
        _stop(home, called)
        return
    server = serving.start(home, _found(home, model), called, port, gpu, vllm or (), host)
    print(f"starting; its log is {server.log}", flush=True)
    serving.await_ready(server, wait)
    print(
        f"{server.name} answers at {server.url} (pid {server.pid}); it keeps running when this terminal closes"
    )
    print("\nlm-eval on it (needs `pip install 'lm-eval[api]'`):\n  " + serving.lm_eval_command(server))
    print(
        f"\na profile's own tasks on it:\n  mathrl-tui run data preprocess eval --server {server.url} --profile NAME"
    )
    print(f"\nto stop it:\n  mathrl-tui serve {server.name} --stop")


def _found(home: Path, model: str) -> str:
    """Return the directory or hub name of `model`.

    A run's arm looks like a hub name, so the latter is the fallback.
    """
    from engine.startup.serve import located
    from store.comparison import parse_address
    from store.naming import UnknownRun, find_run
    from store.score_files import InputError

    if Path(model).expanduser().is_dir():
        return str(Path(model).expanduser().resolve())
    try:
        address = parse_address(model)
        run_id = find_run(home, address.run)
    except (InputError, UnknownRun):
        return model
    return located(home, run_id, address.arm, address.step)


def _stop(home: Path, name: str) -> None:
    from engine.startup import serve as serving

    found = [server for server in serving.servers(home) if server.name == name]
    if not found:
        names = ", ".join(server.name for server in serving.servers(home)) or "none"
        raise WrongInput(f"serve {name} --stop: no such server was started from {home}; running: {names}")
    for server in found:
        serving.stop(server)
        print(f"{server.name} at {server.url} has stopped")
