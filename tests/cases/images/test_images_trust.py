"""Changed, foreign and forged: what a container and `verify` refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import image_kit as kit
import pytest
from containers import Running, refused
from image_kit import WIDTHS, World, repository


def test_a_changed_or_foreign_file_is_refused_before_triton_starts(
    cpu: tuple[str, Path], run: Callable[..., Running], tmp_path: Path
) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(kit.onnx_model(9, WIDTHS["one"]))
    changed = {str(other): {"bind": "/models/one/1000000/model.onnx", "mode": "ro"}}
    assert "one/1000000/model.onnx: sha256" in refused(run(cpu[0], volumes=changed))
    tree = cpu[1].resolve() / "models"
    copy = shutil.copytree(tree, tmp_path / "models")
    (copy / "one" / "2").mkdir()
    (copy / "one" / "2" / "model.onnx").write_bytes(b"")
    foreign = {str(copy): {"bind": "/models", "mode": "ro"}}
    assert "one/2/model.onnx: not in the manifest" in refused(run(cpu[0], volumes=foreign))


def test_a_device_that_trusts_another_key_refuses(
    world: World, cpu: tuple[str, Path], run: Callable[..., Running], tmp_path: Path
) -> None:
    world.cli("keys", "new", "device", REPO_BUILDER_KEYS=str(tmp_path))
    mine = {str(tmp_path): {"bind": "/etc/repo-builder/trusted", "mode": "ro"}}
    (tmp_path / "device.key").unlink()
    assert "Permission denied" in refused(run(cpu[0], volumes=mine))  # pytest's folder is private
    tmp_path.chmod(0o755)
    assert "not trusted here" in refused(run(cpu[0], volumes=mine))


def test_verify_knows_an_image_from_a_forgery(
    world: World, cpu: tuple[str, Path], tmp_path: Path
) -> None:
    assert "signed and whole" in world.cli("verify", cpu[0]).stderr
    forgeries = {
        "below": "COPY evil /opt/repo-builder/start.py",
        "model": "COPY evil /models/one/1000000/model.onnx",
        "settings": 'ENTRYPOINT ["/opt/tritonserver/bin/tritonserver"]',
    }
    (tmp_path / "evil").write_text("print('anything')")
    for name, line in forgeries.items():
        (tmp_path / "Dockerfile").write_text(f"FROM {cpu[0]}\n{line}\n")
        tag = f"repo-builder-test/forged:{name}"
        world.client.images.build(path=str(tmp_path), tag=tag)
        assert "not what was signed" in world.cli("verify", tag, fails=14).stderr
        if name == "below":
            world.cli("verify", tag, "--unsigned")
        world.client.images.remove(tag, force=True)


@pytest.mark.usefixtures("cpu_repository")
def test_verify_checks_a_folder(world: World, tmp_path: Path) -> None:
    folder = repository(tmp_path)
    assert "not signed" in world.cli("verify", folder, fails=14).stderr
    world.cli("keys", "sign", "ci", folder)
    world.cli("verify", folder)
    (folder / "models" / "one" / "config.pbtxt").write_text("")
    assert "one/config.pbtxt" in world.cli("verify", folder, fails=14).stderr
