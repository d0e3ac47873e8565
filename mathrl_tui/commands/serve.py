"""`serve`: a lasting vLLM server of one model, for evaluations by hand."""

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
        str, typer.Option(help="address to listen on; other than this machine's own needs VLLM_API_KEY")
    ] = "127.0.0.1",
    gpu: Annotated[int, typer.Option(min=0, help="which GPU, where there is one")] = 0,
    name: Annotated[str, typer.Option(help="how the server calls it [default: as given]")] = "",
    wait: Annotated[float, typer.Option(min=1, help="longest wait until it is ready, seconds")] = 600.0,
    stop: Annotated[bool, typer.Option("--stop", help="end the server of this model instead")] = False,
    vllm: Annotated[
        list[str] | None, typer.Option("--vllm", metavar="ARGUMENT", help="passed to vLLM; repeatable")
    ] = None,
) -> None:
    """Serve a model by vLLM until it is stopped; prints the lm-eval command that fits it."""
    from engine import serve as serving

    called = name or model
    if stop:
        _stop(home, called)
        return
    server = serving.start(home, _found(home, model), called, port, gpu, vllm or (), host)
    print(f"starting; its log is {server.log}", flush=True)
    serving.await_ready(server, wait)
    print(f"{server.name} answers at {server.url} (pid {server.pid}); it goes on when this terminal is gone")
    print("\nlm-eval on it (needs `pip install 'lm-eval[api]'`):\n  " + serving.lm_eval_command(server))
    print(
        f"\na profile's own tasks on it:\n  mathrl-tui run data preprocess eval --server {server.url} --profile NAME"
    )
    print(f"\nto end it:\n  mathrl-tui serve {server.name} --stop")


def _found(home: Path, model: str) -> str:
    """The folder or hub name that `model` stands for. A run's arm looks like a hub name, which is what is left."""
    from engine.serve import located
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
    from engine import serve as serving

    found = [server for server in serving.servers(home) if server.name == name]
    if not found:
        names = ", ".join(server.name for server in serving.servers(home)) or "none"
        raise WrongInput(f"serve {name} --stop: no such server was started from {home}; there is {names}")
    for server in found:
        serving.stop(server)
        print(f"{server.name} at {server.url} has ended")
