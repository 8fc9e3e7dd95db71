"""The wheel alone, installed away from the checkout: everything it needs is in it."""

from __future__ import annotations

import importlib.metadata
import json
import signal
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from wheel_kit import env, install, packages


def run(environment: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The installed command, from a folder that has nothing to do with the checkout."""
    command = [environment / "bin" / "repo-builder", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=environment.parent, env=env()
    )


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it requires without extras, and nothing else."""
    environment = tmp_path_factory.mktemp("bare") / "venv"
    install(environment, wheel)
    for name in closure("repo-builder", environment):
        for file in importlib.metadata.files(name) or ():
            top = Path(file.parts[0])
            link = packages(environment) / top
            if file.parts[0] not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(Path(str(importlib.metadata.distribution(name).locate_file(top))))
    return environment


def closure(name: str, environment: Path) -> set[str]:
    """The names of what a package requires without extras, all the way down."""
    own = importlib.metadata.distributions(name=name, path=[str(packages(environment))])
    found: set[str] = set()
    waiting = [Requirement(text) for text in next(iter(own)).requires or ()]
    while waiting:
        wanted = waiting.pop()
        extras = wanted.extras or {""}
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        found.add(wanted.name)
        for text in importlib.metadata.requires(wanted.name) or ():
            one = Requirement(text)
            if one.name not in found and (
                not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in extras)
            ):
                one.marker = None
                waiting.append(one)
    return found


def test_it_builds_and_serves_from_another_folder(full: Path) -> None:
    place = full.parent
    copied = run(full, "examples", "copy", "specs")
    assert copied.returncode == 0, copied.stderr
    assert "edge" in run(full, "compose", "edge").stdout
    built = run(full, "build", "specs", "--only", "digits@cpu", "--store", "store", "--json")
    assert built.returncode == 0, built.stderr
    assert [row["status"] for row in json.loads(built.stdout)["rows"]] == ["built"]
    written = run(full, "init", "specs/shapes/shapes.onnx")
    assert written.returncode == 0, written.stderr
    command = [full / "bin" / "repo-builder", "serve", "build/cpu", "--json", "--http-port=0",
               "--grpc-port=0", "--metrics-port=0"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place, env=env())
    try:
        assert server.stdout
        text = ""
        while not text.endswith("}\n"):
            line = server.stdout.readline()
            assert line, "the server ended before it was ready"
            text += line
        grpc = json.loads(text)["grpc"]
        asked = run(full, "infer", "digits", "--input", "specs/digits/sample.png", "--url", grpc)
        assert asked.returncode == 0, asked.stderr
        assert "0: 2 " in asked.stdout
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def test_a_bare_install_has_its_shell_and_its_client(bare: Path) -> None:
    assert "Start with: repo-builder build" in run(bare, "--help").stdout
    client = subprocess.run(
        [bare / "bin" / "python", "-c", "import repo_builder.client as c; print(c.EdgeClient)"],
        capture_output=True, text=True, check=False, cwd="/", env=env(),
    )  # fmt: skip
    assert client.returncode == 0, client.stderr
    asked = run(bare, "infer", "digits", "--input", "x.npy", "--url", "localhost:1")
    assert asked.returncode == 12
    assert "Traceback" not in asked.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("build", "specs"), "build"),
        (("plan", "specs"), "build"),
        (("init", "model.onnx"), "build"),
        (("lint", "models"), "build"),
        (("targets", "list"), "build"),
        (("schema",), "build"),
        (("serve", "build/cpu"), "serve"),
        (("images", "build", "build/cpu"), "images"),
        (("keys", "new", "mine"), "images"),
    ],
)
def test_a_bare_install_says_which_extra_a_command_needs(
    bare: Path, wheel: Path, arguments: tuple[str, ...], extra: str
) -> None:
    repository = bare.parent / "build" / "cpu" / "models" / "digits"
    repository.mkdir(parents=True, exist_ok=True)
    (repository / "config.pbtxt").touch()
    ended = run(bare, *arguments)
    assert ended.returncode == 4, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert f"pip install '{wheel}[{extra}]'" in ended.stderr
