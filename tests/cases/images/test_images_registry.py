"""A real registry, faults on the way to it, and engines that fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import image_kit as kit
import numpy as np
import pytest
from containers import Running, X, expected, infer, ready
from image_kit import ROOT, WIDTHS, World, repository


def test_pushed_pulled_and_upgraded_by_one_layer(
    world: World, cpu: tuple[str, Path], run: Callable[..., Running], tmp_path: Path
) -> None:
    newer = world.build(
        repository(tmp_path / "build", three=("1.1.1", 4)),
        *("--key", "ci", "--name", "repo-builder-test/cpu:2"),
    )
    with kit.registry(tmp_path / "registry") as address:
        name = f"{address}/edge/cpu"
        first = world.cli("images", "push", cpu[0], f"{name}:1").stdout.strip()
        world.cli("images", "push", newer, f"{name}:2")
        ids = [world.client.images.get(image).id for image in (cpu[0], newer)]
        manifests = [kit.registry_json(address, f"/v2/edge/cpu/manifests/{n}") for n in (1, 2)]
        for image in ids:
            world.client.images.remove(image, force=True)

        assert world.client.images.pull(f"{name}@{first.rpartition('@')[2]}").id == ids[0]
        events = list(world.client.api.pull(name, "2", stream=True, decode=True))
        pulled = {e["id"] for e in events if e.get("status") == "Pull complete"}
        kept = {e["id"] for e in events if e.get("status") == "Already exists"}
        assert (len(pulled), len(kept)) == (2, len(manifests[1]["layers"]) - 2)
        assert world.client.images.get(f"{name}:2").id == ids[1]

        old = {layer["digest"] for layer in manifests[0]["layers"]}
        fresh = [layer["size"] for layer in manifests[1]["layers"] if layer["digest"] not in old]
        model = kit.onnx_model(4, WIDTHS["three"])
        assert sum(fresh) <= len(model) + 50_000

        world.client.images.get(f"{name}@{first.rpartition('@')[2]}").tag(
            "repo-builder-test/cpu", "1"
        )
        world.client.images.get(f"{name}:2").tag("repo-builder-test/cpu", "2")
        found = json.loads(world.cli("images", "diff", cpu[0], newer, "--json").stdout)
        assert [row["title"] for row in found["layers"] if row["new"]] == [
            "model three",
            "manifest",
        ]
        assert found["by_chain"] == found["by_digest"]
        assert abs(found["by_digest"] - sum(fresh)) < 2000  # two programs' gzip

        world.cli("verify", f"{name}:2")
        one = ready(run(f"{name}:2"))
        for answer in infer(one, "three", X):
            np.testing.assert_allclose(answer, expected(4, WIDTHS["three"]), rtol=1e-4, atol=1e-3)

        taken = world.cli("images", "push", newer, f"{name}:1", fails=13)
        assert "taken by other content" in taken.stderr
        world.cli("images", "push", newer, f"{name}:1", "--force")


def test_registries_that_refuse_and_registries_that_stumble(
    world: World, cpu: tuple[str, Path], tmp_path: Path
) -> None:
    # A bcrypt hash of a password that nobody uses here.
    nobody = "nobody:$2y$05$V8Uy0h1vG1W3oMZ0SxFZ4.0W5dZg1wJb5l8rZQ2m0nq8qQy8JmHzK\n"
    with kit.registry(tmp_path / "locked", nobody) as address:
        done = world.cli("images", "push", cpu[0], f"{address}/edge/cpu:1", fails=13)
        assert "docker login" in done.stderr
    with kit.registry(tmp_path / "open") as address:
        with kit.faulty(address, [403]) as way:
            done = world.cli("images", "push", cpu[0], f"{way}/edge/cpu:1", fails=13)
            assert "check its rights" in done.stderr
        with kit.faulty(address, [503, 502]) as way:
            done = world.cli("images", "push", cpu[0], f"{way}/edge/cpu:1")
            assert "trying again" in done.stderr
        shutil.copy(ROOT / "repo_builder/images/pins.yaml", tmp_path / "pins.yaml")
        own = tmp_path / "own.yaml"
        own.write_text(f"families: {{cpu: {{base: '{address}/no/such:1'}}}}\n")
        done = world.cli("images", "build", cpu[1], "--pins", own, fails=13)
        assert f"{address}/no/such:1" in done.stderr
        assert "the registry has no such" in done.stderr
        own.write_text(f"families: {{cpu: {{base: '{address}/edge/cpu:1'}}}}\n")
        world.cli("pins", "update", "cpu", "--pins", own)
        assert f"{address}/edge/cpu:1@sha256:" in own.read_text()
    done = world.cli("images", "push", cpu[0], f"{address}/edge/cpu:1", fails=13)
    assert "connection refused" in done.stderr.lower()


def test_engines_that_are_missing_forbidden_or_dying(
    world: World, cpu: tuple[str, Path], tmp_path: Path
) -> None:
    gone = f"unix://{tmp_path}/none.sock"
    done = world.cli("images", "list", fails=13, DOCKER_HOST=gone)
    assert "no engine answers there" in done.stderr
    done = world.cli("images", "build", cpu[1], "--base", world.base, fails=13, DOCKER_HOST=gone)
    assert "docker build --network none" in done.stderr
    assert (cpu[1].parent / "images" / "cpu" / "Dockerfile").is_file()
    engine = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    with kit.cut_socket(engine, tmp_path, b"Step 5/") as address:
        shutil.copytree(
            Path(world.env["REPO_BUILDER_IMAGE_CACHE"]) / "wheels", tmp_path / "cache/wheels"
        )
        done = world.cli(
            *("images", "build", cpu[1], "--base", world.base),
            fails=13,
            DOCKER_HOST=address,
            REPO_BUILDER_IMAGE_CACHE=str(tmp_path / "cache"),
        )
        assert "Step 4/" in done.stderr
        assert "the engine stopped answering" in done.stderr
        assert not list((tmp_path / "cache").glob("runtimes/*/config.json"))


@pytest.mark.usefixtures("world")
def test_a_user_without_rights_is_told_so() -> None:
    if not kit.as_root():
        pytest.skip("needs root, to become a user without rights")
    code = (
        "import os\nimport docker\nfrom repo_builder.images import engine\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "engine.connect()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "you may not use this engine" in done.stderr


def test_a_full_disk_leaves_no_half_file(
    world: World, cpu: tuple[str, Path], tmp_path: Path
) -> None:
    if not kit.as_root():
        pytest.skip("needs root, to make a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], check=True)
    try:
        done = world.cli("images", "save", cpu[0], tmp_path / "cpu.tar", fails=13)
        assert "the disk is full" in done.stderr
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
