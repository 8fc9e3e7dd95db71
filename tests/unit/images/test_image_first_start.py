"""What a container does before Triton where the device builds TensorRT plans."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path

import pytest

from repo_builder.images.inside import first_start

# Stands for the program: writes down how it was started.
PROGRAM = """
import json, os, sys
told = {"arguments": sys.argv[1:], "header": os.environ["REPO_BUILDER_TRITON_HEADER"]}
with open(sys.argv[3] + ".new", "w") as file:
    json.dump(told, file)
os.rename(sys.argv[3] + ".new", sys.argv[3])
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "verified"
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "config.pbtxt").write_text("config")
    (folder / "m" / "1" / "model.onnx").write_text("model")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    home = tmp_path / "program"
    (home / "repo_builder" / "trt").mkdir(parents=True)
    # Without these an installed repo_builder would come first.
    (home / "repo_builder" / "__init__.py").touch()
    (home / "repo_builder" / "trt" / "__init__.py").touch()
    (home / "repo_builder" / "trt" / "__main__.py").write_text(PROGRAM)
    return home


def command(models: Path) -> list[str]:
    return ["tritonserver", f"--model-repository={models}", "--http-port=1"]


def test_a_view_is_real_folders_with_links_and_made_anew(models: Path, tmp_path: Path) -> None:
    view = tmp_path / "view"
    for _ in range(2):
        first_start.make_view(models, view)
        files = {path.relative_to(view).as_posix(): path for path in view.rglob("*")}
        assert set(files) == {"m", "m/1", "m/config.pbtxt", "m/1/model.onnx"}
        assert [name for name in sorted(files) if files[name].is_symlink()] == [
            *("m/1/model.onnx", "m/config.pbtxt")
        ]
        assert files["m/config.pbtxt"].read_text() == "config"
        # What an earlier start left is gone, and the models are as they were.
        (view / "m" / "1" / "model.plan").touch()
        (view / "m" / "config.pbtxt").unlink()
        (view / "m" / "config.pbtxt").write_text("another")
    assert (models / "m" / "config.pbtxt").read_text() == "config"


def test_a_link_in_place_of_the_view_is_not_followed(models: Path, tmp_path: Path) -> None:
    (tmp_path / "view").symlink_to(models)
    with pytest.raises(OSError, match="symbolic link"):
        first_start.make_view(models, tmp_path / "view")
    assert (models / "m" / "config.pbtxt").exists()


def test_triton_gets_the_view_and_the_program_alone_may_load(
    models: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("TRITON_HTTP_PORT", "81")
    triton, *options = first_start.begin(command(models), models, state, program)
    until = time.monotonic() + 30
    while not (state / "status.json").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    told = json.loads((state / "status.json").read_text())
    places = [str(state / name) for name in ("models", "plans", "status.json")]
    assert told["arguments"] == [*places, "127.0.0.1:81"]
    name, _, token = told["header"].partition("=")
    assert len(token) == 32
    assert triton == "tritonserver"
    assert options == [
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--http-restricted-api=model-repository:{name}={token}",
        f"--grpc-restricted-protocol=model-repository:{name}={token}",
        f"--model-repository={state / 'models'}",
        "--http-port=1",
    ]
    # This process holds the folder now, as Triton does after it.
    with (state / "lock").open("w") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_without_a_folder_of_its_own_it_starts_as_ever(
    models: Path, program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    assert first_start.begin(command(models), models, nowhere, program) == command(models)
    said = capsys.readouterr().err
    assert f"mount a volume at {nowhere}; models stay on ONNX Runtime" in said
    taken = tmp_path / "taken"
    taken.mkdir()
    with (taken / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert first_start.begin(command(models), models, taken, program) == command(models)
    assert "in use by another container" in capsys.readouterr().err
    assert not (taken / "models").exists()
