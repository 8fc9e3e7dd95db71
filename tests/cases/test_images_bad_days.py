"""Full disks, cut pushes, dying engines, bases that changed, huge models: images on bad days.

All of it on an engine of these tests' own, whose disk is a small one in memory, so that it can be
filled, killed and started again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import disks
import image_kit as kit
import pytest
from faults import Proxy
from image_kit import ROOT, World, repository

from repo_builder.base import digest

MB = 1 << 20
# A program that runs another one and tells the most memory that it held, in KiB.
MEASURED = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run(sys.argv[1:]).returncode\n"
    "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n"
    "sys.exit(code)\n"
)


@dataclass
class Dockerd:
    """An engine of our own: `disk` is where it keeps all it has."""

    disk: Path
    base: str
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"unix://{self.disk}/docker.sock"

    def start(self) -> None:
        """Start it and wait until it answers."""
        import docker
        import docker.errors

        for name in ("pid", "docker.sock"):
            (self.disk / name).unlink(missing_ok=True)
        command = [
            *("dockerd", "--data-root", self.disk / "data", "--exec-root", self.disk / "exec"),
            *("--pidfile", self.disk / "pid", "--host", self.address),
            *("--iptables=false", "--ip6tables=false", "--bridge=none"),
        ]
        with (self.disk / "log").open("ab") as log:
            self.running.append(subprocess.Popen(command, stdout=log, stderr=log))

        def answers() -> bool:
            assert self.running[-1].poll() is None, (self.disk / "log").read_text()[-2000:]
            with contextlib.suppress(docker.errors.DockerException):
                client = docker.DockerClient(self.address)
                client.close()
                return True
            return False

        kit.wait_for(answers, "the engine")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, and the containerd that it started."""
        engine = self.running.pop()
        containerd = self.disk / "exec" / "containerd" / "containerd.pid"
        child = int(containerd.read_text()) if containerd.exists() else 0
        engine.send_signal(number)
        engine.wait()
        if number == signal.SIGKILL and child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
            kit.wait_for(lambda: not Path(f"/proc/{child}").exists(), "containerd to end")


@pytest.fixture(scope="module")
def dockerd(
    unavailable: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dockerd]:
    """The engine, with the base image that another one has."""
    import docker

    if shutil.which("dockerd") is None or not kit.as_root():
        unavailable("an engine of one's own needs dockerd, and root")
    made = subprocess.run([ROOT / ".ci/base-image"], capture_output=True, text=True, check=False)
    if made.returncode:
        unavailable(f"no base image: {made.stderr.strip()[-300:]}")
    folder = tmp_path_factory.mktemp("engine")
    with disks.small(folder / "disk", 4 << 20, unavailable) as disk:
        engine = Dockerd(disk, made.stdout.strip())
        engine.start()
        there, here = docker.from_env(), docker.DockerClient(engine.address)
        here.images.load(there.images.get(engine.base).save(named=True))
        there.close()
        here.close()
        yield engine
        engine.stop()


@pytest.fixture
def world(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Commands that use that engine."""
    import docker

    folder = tmp_path_factory.mktemp("bad")
    env = {**kit.environment(folder), "DOCKER_HOST": dockerd.address}
    client = docker.DockerClient(dockerd.address, timeout=300)
    yield World(client, dockerd.base, folder, env)
    client.close()


def one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The last line is the error, and says all of `words`."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for word in words:
        assert word in errors[0]


@contextlib.contextmanager
def room(disk: Path, left: int) -> Iterator[None]:
    """Leave so many bytes of a disk free."""
    free = shutil.disk_usage(disk).free
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - left)
    try:
        yield
    finally:
        filler.unlink()


def cold_cache(world: World, folder: Path) -> dict[str, str]:
    """A cache of images that holds wheels alone, so that the engine must build."""
    kept = Path(world.env["REPO_BUILDER_IMAGE_CACHE"]) / "wheels"
    shutil.copytree(kept, folder / "cache" / "wheels")
    return {"REPO_BUILDER_IMAGE_CACHE": str(folder / "cache")}


def test_an_engine_whose_disk_is_full_keeps_what_it_had(
    world: World, dockerd: Dockerd, tmp_path: Path
) -> None:
    old = world.build(repository(tmp_path / "old"), "--name", "bad/cpu:1")
    before = world.client.images.get(old).id
    newer = repository(tmp_path / "new", three=("1.1.1", 8))
    args = ("images", "build", newer, "--base", world.base, "--name", "bad/cpu:2")
    with room(dockerd.disk, 20 * MB):
        one_line(world.cli(*args, fails=13, **cold_cache(world, tmp_path)), "disk is full")
    # With everything but the models here, what is left to do is to load the image.
    with room(dockerd.disk, MB):
        one_line(world.cli(*args, fails=13), "disk is full")
        assert world.client.images.get(old).id == before
    assert world.cli(*args).stdout.strip() == "bad/cpu:2"
    assert {
        row["reference"] for row in json.loads(world.cli("images", "list", "--json").stdout)
    } >= {*("bad/cpu:1", "bad/cpu:2")}


def test_an_engine_that_is_killed_in_mid_build(
    world: World, dockerd: Dockerd, tmp_path: Path
) -> None:
    folder = repository(tmp_path / "build")
    env = cold_cache(world, tmp_path)
    command = [sys.executable, "-m", "repo_builder", "images", "build", folder]
    with subprocess.Popen(
        [*command, "--base", world.base],
        env={**os.environ, **world.env, **env},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=world.folder,
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "Step 5/" in line:
                break
        dockerd.stop(signal.SIGKILL)
        try:
            said += process.stderr.readlines()
            assert process.wait() == 13
        finally:
            dockerd.start()
    errors = [line for line in said if line.startswith("error: ")]
    assert len(errors) == 1
    assert "the engine" in errors[0]
    assert not list((tmp_path / "cache").glob("runtimes/*"))
    assert world.build(folder, "--name", "bad/cpu:3") == "bad/cpu:3"


def blobs(registry: Path) -> dict[str, Path]:
    """Digest -> file of every blob that a registry has."""
    return {path.parent.name: path for path in registry.rglob("blobs/sha256/*/*/data")}


def test_half_a_push_is_no_image_and_the_next_one_is_whole(world: World, tmp_path: Path) -> None:
    name = world.build(repository(tmp_path / "build"), "--name", "bad/cpu:4")
    with kit.registry(tmp_path / "registry") as address, Proxy(address) as way:
        way.rate = 8 * MB
        there = f"localhost:{way.address.rpartition(':')[2]}/edge/cpu:1"
        command = [sys.executable, "-m", "repo_builder", "images", "push", name, there]
        options: dict[str, Any] = {"env": {**os.environ, **world.env}, "cwd": world.folder}

        def uploading() -> bool:
            return any(
                path.stat().st_size for path in (tmp_path / "registry").rglob("_uploads/*/data")
            )

        # Stopped by the user in the middle.
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
        kit.wait_for(uploading, "an upload")
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
        assert process.returncode == 130, said
        assert not kit.http_ok(address, "/v2/edge/cpu/manifests/1")
        # Cut off by the network in the middle: the engine tries again by itself.
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
        kit.wait_for(uploading, "an upload")
        way.cut()
        way.rate = 0
        said = process.communicate()[1]
        assert process.returncode == 0, said
        manifest = kit.registry_json(address, "/v2/edge/cpu/manifests/1")
        found = blobs(tmp_path / "registry")
        for layer in (manifest["config"], *manifest["layers"]):
            content = found[layer["digest"].removeprefix("sha256:")].read_bytes()
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer["digest"]
        assert manifest["config"]["digest"] == world.client.images.get(name).id


def test_a_base_image_is_the_pinned_one_whatever_its_tag_says(world: World, tmp_path: Path) -> None:
    folder, own = repository(tmp_path / "build"), tmp_path / "pins.yaml"
    args = ("images", "build", folder, "--pins", own, "--name", "bad/cpu:5", "--json")
    with kit.registry(tmp_path / "registry") as address:
        base = f"{address}/base/python"
        image = world.client.images.get(world.base)
        image.tag(base, "3.11")
        world.client.images.push(base, "3.11")
        world.client.images.remove(f"{base}:3.11")
        own.write_text(f"families: {{cpu: {{base: '{base}:3.11'}}}}\n")
        world.cli("pins", "update", "cpu", "--pins", own)
        first = json.loads(world.cli(*args).stdout)[0]
        # The tag moves to something else; the build stays with what it was pinned to.
        recipe = io.BytesIO(f"FROM {world.base}\nLABEL other=yes\n".encode())
        other, _ = world.client.images.build(fileobj=recipe)
        other.tag(base, "3.11")
        world.client.images.push(base, "3.11")
        world.client.images.remove(f"{base}:3.11")
        again = json.loads(world.cli(*args).stdout)[0]
        assert (again["id"], again["changed"]) == (first["id"], False)
        pinned = own.read_text()
        world.cli("pins", "update", "cpu", "--pins", own)
        assert own.read_text() != pinned
        # A digest that nobody has is an error, and no other image is taken for it.
        own.write_text(f"families: {{cpu: {{base: '{base}:3.11@sha256:{'0' * 64}'}}}}\n")
        one_line(world.cli(*args, fails=13), "sha256:0000", "no such tag or digest")
        own.write_text(f"families: {{cpu: {{base: '{base}:3.11'}}}}\n")
        done = world.cli(*args, "--platform", "linux/arm64", fails=13)
        one_line(done, "linux/arm64", "pull")


def test_a_model_of_3_gb_is_never_in_memory(world: World, dockerd: Dockerd, tmp_path: Path) -> None:
    folder = repository(tmp_path / "build").resolve()
    (model,) = (folder / "models" / "one").glob("*/model.onnx")
    model.unlink()
    with model.open("wb") as file:
        file.truncate(3_000_000_000)  # a file of holes: no disk is used
    sha256 = digest.of_file(model)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    name = model.relative_to(folder / "models" / "one").as_posix()
    manifest["models"]["one"]["files"][name] = [sha256, 3_000_000_000]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    # The engine's disk has no room for it either, which shows that all of it was sent.
    with room(dockerd.disk, 500 * MB):
        done = subprocess.run(
            [
                *(sys.executable, "-c", MEASURED, sys.executable, "-m", "repo_builder"),
                *("images", "build", str(folder), "--base", world.base),
            ],
            env={**os.environ, **world.env},
            capture_output=True,
            text=True,
            check=False,
            cwd=world.folder,
        )
    assert done.returncode == 13, done.stderr
    one_line(done, "disk is full")
    assert int(done.stderr.rpartition("peak")[2]) < 400 << 10
