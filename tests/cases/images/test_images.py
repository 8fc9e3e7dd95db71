"""The image of the CPU, with a real engine and a genuine Triton inside: built, served, moved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import image_kit as kit
import numpy as np
from containers import Running, X, expected, infer, ready
from image_kit import ROOT, WIDTHS, World


def test_the_image_serves_without_rights_and_ends_when_told(
    world: World, cpu: tuple[str, Path], run: Callable[..., Running]
) -> None:
    one = ready(run(cpu[0]))
    for name, seed in (("one", 1), ("two", 2), ("three", 3)):
        for answer in infer(one, name, X):
            np.testing.assert_allclose(answer, expected(seed, WIDTHS[name]), rtol=1e-4, atol=1e-3)
    attrs = world.client.images.get(cpu[0]).attrs
    assert attrs["Config"]["User"] == "10001:10001"
    assert set(attrs["Config"]["ExposedPorts"]) == {"8000/tcp", "8001/tcp", "8002/tcp"}
    code, output = one.container.exec_run(["sh", "-c", "id"])
    assert (code, b"no shell" in output) == (1, True)
    one.container.stop(timeout=40)
    one.container.reload()
    assert one.container.attrs["State"]["ExitCode"] == 0


def test_the_image_is_small_and_every_byte_is_explained(
    world: World, cpu: tuple[str, Path]
) -> None:
    plot, sbom = world.folder / "plot.svg", world.folder / "sbom.json"
    done = world.cli("images", "inspect", cpu[0], "--json", "--plot", plot, "--sbom", sbom)
    found = json.loads(done.stdout)
    assert found["disk"] <= 212e6
    assert found["pull"] <= 73e6
    assert sum(found["parts"].values()) == found["disk"]
    assert found["parts"]["model two"] > 8 * WIDTHS["two"]
    assert plot.read_text().startswith("<svg")
    names = {
        part["name"]: part.get("version") for part in json.loads(sbom.read_text())["components"]
    }
    assert names["nvidia-pytriton"] == "0.7.0"
    assert names["two"] == "1.0.0"
    assert "libc6" in names
    world.cli("images", "inspect", cpu[0], "--sbom", world.folder / "again.json")
    assert (world.folder / "again.json").read_bytes() == sbom.read_bytes()
    over = world.cli("images", "inspect", cpu[0], "--max-disk-mb", "100", fails=7)
    assert "limit 100 MB" in over.stderr


def test_built_from_nothing_again_it_has_the_same_id(world: World, cpu: tuple[str, Path]) -> None:
    before = world.client.images.get(cpu[0]).id
    again = world.cli("images", "build", cpu[1], "--base", world.base, "--key", "ci", "--json")
    assert json.loads(again.stdout)[0]["changed"] is False
    world.client.images.remove(before, force=True)
    cache = world.folder / "other-cache"
    shutil.copytree(Path(world.env["REPO_BUILDER_IMAGE_CACHE"]) / "wheels", cache / "wheels")
    name = ("--key", "ci", "--name", "repo-builder-test/cpu:1")
    done = world.cli(
        *("images", "build", cpu[1], "--base", world.base, *name),
        REPO_BUILDER_IMAGE_CACHE=str(cache),
    )
    assert "Step " in done.stderr  # it was built, not found
    assert world.client.images.get(cpu[0]).id == before


def test_bad_names_platforms_and_bases_are_one_line(
    world: World, cpu: tuple[str, Path], tmp_path: Path
) -> None:
    for name in ("Upper/Case:1", "a//b:1", "a:b:c d", "-x:1", "repo:" + "t" * 129):
        done = world.cli("images", "build", cpu[1], "--name", name, fails=2)
        assert len(done.stderr.splitlines()) == 1
    arm = ("--base", world.base, "--platform", "linux/arm64")
    done = world.cli("images", "build", cpu[1], *arm, fails=13)
    assert "is for linux/amd64, not linux/arm64" in done.stderr
    done = world.cli("images", "build", cpu[1], "--platform", "linux/s390x", fails=2)
    assert "not made for linux/s390x" in done.stderr
    done = world.cli("images", "build", tmp_path, fails=2)
    assert "run repo-builder build first" in done.stderr
    assert "no image" in world.cli("images", "inspect", "no/such:image", fails=13).stderr


def test_the_context_builds_plainly(
    world: World, cpu: tuple[str, Path], run: Callable[..., Running]
) -> None:
    world.cli("images", "build", cpu[1], "--base", world.base, "--key", "ci", "--context-only")
    image, _ = world.client.images.build(
        path=str(cpu[1].parent / "images" / "cpu"),
        network_mode="none",
        tag="repo-builder-test/plain:1",
        forcerm=True,
    )
    answers = infer(ready(run(image.id)), "one", X)
    np.testing.assert_allclose(answers[0], expected(1, WIDTHS["one"]), rtol=1e-4, atol=1e-3)
    ours = world.client.images.get(cpu[0]).attrs["Config"]
    for setting in ("User", "Entrypoint", "Env", "StopSignal", "Healthcheck", "ExposedPorts"):
        assert image.attrs["Config"][setting] == ours[setting], setting


def test_saved_and_exported_images_are_whole(
    world: World, cpu: tuple[str, Path], tmp_path: Path
) -> None:
    image = world.client.images.get(cpu[0]).id
    world.cli("images", "save", cpu[0], tmp_path / "cpu.tar")
    world.client.images.remove(image, force=True)
    with (tmp_path / "cpu.tar").open("rb") as file:
        assert world.client.images.load(file)[0].id == image
    first = world.cli("images", "export", cpu[0], tmp_path / "layout").stdout.strip()
    index = json.loads((tmp_path / "layout" / "index.json").read_text())
    assert index["manifests"][0]["digest"] == first
    manifest = json.loads((tmp_path / "layout/blobs/sha256" / first[7:]).read_text())
    assert manifest["config"]["digest"] == image
    for blob in [manifest["config"], *manifest["layers"]]:
        assert (tmp_path / "layout/blobs/sha256" / blob["digest"][7:]).stat().st_size == blob[
            "size"
        ]


def test_compose_runs_what_was_built(
    world: World, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    """With more models than a first try has, since limits of the container hold for all of them."""
    compose = shutil.which("docker-compose")
    if compose is None:
        unavailable("docker-compose is not installed")
    for name in ("edge", "cloud", "dev"):
        subprocess.run([compose, "-f", ROOT / f"compose/{name}.yaml", "config", "-q"], check=True)
    ports = {name: kit.free_port() for name in ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")}
    model = {"model.onnx": kit.onnx_model(1, WIDTHS["one"])}
    models = dict.fromkeys(("one", *(f"m{i}" for i in range(14))), ("1.0.0", model))
    folder = kit.publish_models(tmp_path / "build", "cpu", "onnxruntime", models)
    name = world.build(folder, "--name", "repo-builder-test/many:1")
    world.client.images.get(name).tag("repo-builder/cpu", "compose-test")
    command = [compose, "-p", "repo-builder-test", "-f", str(ROOT / "compose/edge.yaml")]
    env = {**os.environ, "IMAGE_TAG": "compose-test", **{k: str(v) for k, v in ports.items()}}
    try:
        subprocess.run([*command, "--profile", "cpu", "up", "-d"], env=env, check=True)
        url = f"127.0.0.1:{ports['HTTP_PORT']}"
        kit.wait_for(lambda: kit.http_ok(url, "/v2/health/ready"), "the edge's Triton")
        one = Running(None, f"127.0.0.1:{ports['GRPC_PORT']}", url)
        for answer in infer(one, "one", X):
            np.testing.assert_allclose(answer, expected(1, WIDTHS["one"]), rtol=1e-4, atol=1e-3)
    finally:
        subprocess.run([*command, "--profile", "cpu", "down", "-v"], env=env, check=True)
        world.client.images.remove("repo-builder/cpu:compose-test", force=True)
