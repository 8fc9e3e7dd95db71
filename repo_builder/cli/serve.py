"""`repo-builder serve`: a genuine Triton over a repository, until Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from repo_builder.base import console, ending
from repo_builder.cli import _complete, _options

_PORT = click.IntRange(0, 65535)
_FREE = "0 takes a free port."


@click.command(epilog="Arguments after -- go to tritonserver as they are.")
@click.argument("repository", type=click.Path(path_type=Path))
@click.argument("extra", nargs=-1, type=click.UNPROCESSED)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@_options.number_option("--http-port", _PORT, 8000, _FREE)
@_options.number_option("--grpc-port", _PORT, 8001, _FREE)
@_options.number_option("--metrics-port", _PORT, 8002, _FREE)
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    help="Folder of the Triton to use [default: /opt/tritonserver, else nvidia-pytriton's].",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    shell_complete=_complete.served,
    help="Load only this model; may be repeated.",
)
@click.option("--model-config-name", default="", help="Use configs/NAME.pbtxt of each model.")
@click.option("--json", "as_json", is_flag=True, help="Print the endpoints as JSON.")
def command(
    *,
    repository: Path,
    extra: tuple[str, ...],
    host: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    triton: Path | None,
    models: tuple[str, ...],
    model_config_name: str,
    as_json: bool,
) -> None:
    """Serve REPOSITORY (such as build/cpu) with Triton until Ctrl-C.

    Prints the endpoints once every model is ready and has answered its warmup; -v shows what is
    loaded until then. Ctrl-C lets requests in flight end; a second Ctrl-C does not.
    """
    from repo_builder import serve

    ending.on_signals(again=_at_once, grace_s=None)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    server = serve.Triton(
        repository,
        triton=triton,
        models=models or None,
        config_name=model_config_name,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        extra=extra,
        on_event=_tell,
    )
    with server:
        try:
            _print_endpoints(server, as_json)
            server.wait()
        except KeyboardInterrupt:
            console.say("draining; Ctrl-C again stops at once")
    console.say("stopped")


def _tell(event: str) -> None:
    """What Triton warns of is said; that it loads and has loaded what it was told to, with -v."""
    good = event.startswith(("loading: ", "successfully loaded "))
    (console.detail if good else console.say)(event)


def _at_once() -> None:
    raise KeyboardInterrupt


def _print_endpoints(server: Any, as_json: bool) -> None:
    endpoints = {
        "http": f"http://{server.http_url}",
        "grpc": server.grpc_url,
        "metrics": server.metrics_url,
    }
    begun = f"serving {server.models_dir}; log: {server.log}; Ctrl-C stops"
    if as_json:
        console.say(begun)
        console.out_json({**endpoints, "pid": server.pid, "log": str(server.log)})
    else:
        console.out("\n".join([begun, *(f"{name:<8} {url}" for name, url in endpoints.items())]))
