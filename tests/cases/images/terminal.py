"""A terminal for what the pages of the docs say to type: in a folder, with the package's wheel.

Servers (`repo-builder serve`, Dask's) stay, as in a terminal beside it: Triton until the next one
begins, since both have the ports that the pages show, and all until the terminal is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import image_kit as kit
from image_kit import World
from wheel_kit import env, packages

# What a server says once it can be asked.
READY = {
    "repo-builder serve": "metrics ",
    "dask scheduler": "Scheduler at:",
    "dask worker": "Registered to:",
}
TRITON = "repo-builder serve"
PROJECT = "repo-builder-docs"
PORTS = (8000, 8001, 8002)


def programs(folder: Path, environment: Path) -> Path:
    """A folder with `python` and `pip` of an environment of its own, `dask`, and `docker compose`.

    It has the package by `environment`, and beside it all packages that are installed here, as have
    those that `python -m venv` makes. So pip needs no index.
    """
    made = folder / "programs"
    made.mkdir()
    own = folder / "environment"
    venv.create(own, symlinks=True)
    here = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages(own) / "others.pth").write_text("\n".join(sorted(here)))
    (packages(own) / "package.pth").write_text(str(packages(environment)))
    link = f"cp {packages(own)}/others.pth $(echo $3/lib/python*/site-packages)"
    scripts = {
        "python": f'{own}/bin/python "$@" || exit\nif [ "$1 $2" = "-m venv" ]; then {link}; fi',
        "pip": f'exec {own}/bin/python -m pip "$@"',
        "dask": f'exec {own}/bin/python -m dask "$@"',
        "docker": 'if [ "$1" = compose ]; then shift; exec docker-compose "$@"; fi\n'
        f'exec {shutil.which("docker")} "$@"',
    }
    for name, text in scripts.items():
        (made / name).write_text(f"#!/bin/sh\n{text}\n")
        (made / name).chmod(0o755)
    return made


class Terminal:
    """Runs commands in `folder`; `others` stands for the names of other machines."""

    def __init__(
        self,
        folder: Path,
        environment: Path,
        cache: Path,
        others: Mapping[str, str],
    ) -> None:
        self.folder = folder
        self.others = dict(others)
        self.environment = {
            **env(),
            "PATH": f"{programs(folder, environment)}:{environment / 'bin'}:{os.environ['PATH']}",
            "COLUMNS": "200",
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_NO_INDEX": "1",
            "PIP_YES": "1",
            "PYTHONUNBUFFERED": "1",
            "XDG_CACHE_HOME": str(cache),
        }
        self.place = folder / "place"
        self.place.mkdir()
        self.contained = False
        self.exports: list[str] = []
        self.servers: list[tuple[str, subprocess.Popen[str]]] = []

    def _settings(self, command: str) -> dict[str, str]:
        """The variables of a command. What goes into images may come from the package index."""
        if "repo-builder" not in command:
            return self.environment
        return {name: value for name, value in self.environment.items() if name != "PIP_NO_INDEX"}

    def run(self, command: str, *, fails: bool = False) -> str:
        """What it prints; of a server, what it prints until it can be asked."""
        for name, other in self.others.items():
            command = command.replace(name, other)
        if command.startswith("export "):
            self.exports.append(command)
            return ""
        for program, sign in READY.items():
            if command.startswith(program):
                return self._start(program, command, sign)
        if "compose" in command and " up " in command and not self.contained:
            self._end(TRITON)
            _wait_for_ports()
            self.contained = True
        ended = subprocess.run(
            ["bash", "-c", "\n".join([*self.exports, command])], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            cwd=self.place, env=self._settings(command), timeout=600,
        )  # fmt: skip
        assert (ended.returncode != 0) == fails, f"{command}\n{ended.stdout}"
        if "compose" in command and " up " in command:
            kit.wait_for(
                lambda: kit.http_ok(f"127.0.0.1:{PORTS[0]}", "/v2/health/ready"),
                "Triton in a container",
            )
        return ended.stdout

    def python(self, program: str) -> str:
        """What a Python program prints."""
        (self.folder / "block.py").write_text(program)
        return self.run(f"python {self.folder / 'block.py'}")

    def _start(self, program: str, command: str, sign: str) -> str:
        if program == TRITON:
            self._end(TRITON)
            _wait_for_ports()
        started = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, cwd=self.place, env=self.environment,
        )  # fmt: skip
        self.servers.append((program, started))
        assert started.stdout
        printed = ""
        for line in started.stdout:
            printed += line
            if sign in line:
                return printed
        raise AssertionError(f"{command} ended with {started.wait(30)}\n{printed}")

    def _end(self, program: str) -> None:
        for name, server in reversed(self.servers):
            if name.startswith(program) and server.poll() is None:
                server.send_signal(signal.SIGTERM)
                server.wait(60)

    def close(self) -> None:
        """End the servers, those of the containers too."""
        self._end("")


def _wait_for_ports() -> None:
    kit.wait_for(lambda: not any(map(kit.answers, PORTS)), f"free ports {PORTS}", 120)


@contextlib.contextmanager
def engine(world: World, opened: Terminal, registry: str) -> Iterator[None]:
    """The engine and a registry, which `registry` stands for, for what a terminal does.

    The base of its images is that of the tests, by a pins file. What it tags and starts is gone
    afterwards; tags that were there before are as they were.
    """
    name, address = "repo-builder/cpu", ""
    before = {tag: image.id for image in world.client.images.list(name) for tag in image.tags}
    bases = {family: {"base": world.base} for family in ("cpu", "openvino")}
    (opened.place / "pins.yaml").write_text(json.dumps({"families": bases}))
    opened.environment["REPO_BUILDER_IMAGE_CACHE"] = world.env["REPO_BUILDER_IMAGE_CACHE"]
    opened.environment["COMPOSE_PROJECT_NAME"] = PROJECT
    try:
        with kit.registry(opened.folder / "registry") as address:
            opened.others[registry] = address
            yield
    finally:
        ours = {"label": f"com.docker.compose.project={PROJECT}"}
        for container in world.client.containers.list(all=True, filters=ours):
            container.remove(force=True)
        for network in world.client.networks.list(filters=ours):
            network.remove()
        tags = {tag for image in world.client.images.list() for tag in image.tags}
        for tag in tags - before.keys():
            if tag.startswith((f"{name}:", f"{address}/")):
                world.client.images.remove(tag, force=True)
        for image in world.client.images.list(all=True):
            for tag in (tag for tag, known in before.items() if known == image.id):
                image.tag(*tag.rsplit(":", 1))
