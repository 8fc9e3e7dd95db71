"""Images with a real engine, a real registry and a genuine Triton inside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import image_kit as kit
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from fakes import jetson
from image_kit import ROOT, WIDTHS, World, repository
from tritonclient.utils import InferenceServerException

from repo_builder.base import digest
from repo_builder.trt import request


@pytest.fixture(scope="session")
def world(
    unavailable: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The engine that answers here, with the base image made of Debian's packages."""
    import docker
    import docker.errors

    try:
        client = docker.from_env(timeout=300)
        client.ping()
    except docker.errors.DockerException as failure:
        unavailable(f"no container engine: {failure}")
    if not kit.have_registry():
        unavailable("docker-registry is not installed")
    made = subprocess.run([ROOT / ".ci/base-image"], capture_output=True, text=True, check=False)
    if made.returncode:
        unavailable(f"no base image: {made.stderr.strip()[-300:]}")
    folder = tmp_path_factory.mktemp("images")
    yield World(client, made.stdout.strip(), folder, kit.environment(folder))
    for image in client.images.list(filters={"label": "io.repo-builder.target"}):
        if any("repo-builder-test" in tag or tag.startswith("localhost:") for tag in image.tags):
            client.images.remove(image.id, force=True)
    client.close()


@pytest.fixture(scope="session")
def cpu_repository(world: World) -> Path:
    """The repository of the CPU image, and a key to sign it with."""
    world.cli("keys", "new", "ci")
    return repository(world.folder / "build")


@pytest.fixture
def cpu(world: World, cpu_repository: Path) -> tuple[str, Path]:
    """The signed CPU image and its repository; built once, loaded again where a test drops it."""
    name = ("--key", "ci", "--name", "repo-builder-test/cpu:1")
    return world.build(cpu_repository, *name), cpu_repository


@dataclass
class Running:
    """A container with a Triton in it."""

    container: Any
    grpc: str
    http: str


def start(world: World, image: str, **options: Any) -> Running:
    """Start a container as a device would: no rights, nothing writable but /tmp."""
    ports = {name: kit.free_port() for name in ("http", "grpc", "metrics")}
    container = world.client.containers.run(
        image,
        [f"--{name}-port={port}" for name, port in ports.items()]
        + [f"--{name}-address=127.0.0.1" for name in ports],
        detach=True,
        network_mode="host",
        read_only=True,
        tmpfs={"/tmp": ""},  # noqa: S108 (in the container)
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        shm_size="128m",
        environment={"TRITON_HTTP_PORT": str(ports["http"])},
        **options,
    )
    return Running(container, f"127.0.0.1:{ports['grpc']}", f"127.0.0.1:{ports['http']}")


@pytest.fixture
def run(world: World) -> Iterator[Callable[..., Running]]:
    """`run(image, **options)` starts a container that is gone after the test."""
    running: list[Running] = []

    def begin(image: str, **options: Any) -> Running:
        running.append(start(world, image, **options))
        return running[-1]

    yield begin
    for one in running:
        one.container.remove(force=True)


def ready(one: Running) -> Running:
    """Wait until the container's own health check calls it healthy."""

    def healthy() -> bool:
        one.container.reload()
        assert one.container.status == "running", one.container.logs().decode()[-2000:]
        return bool(one.container.attrs["State"]["Health"]["Status"] == "healthy")

    kit.wait_for(healthy, "the container to be healthy")
    return one


def infer(one: Running, model: str, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The answers of a model through gRPC and through HTTP."""
    answers = []
    for module, url in ((tritonclient.grpc, one.grpc), (tritonclient.http, one.http)):
        client = module.InferenceServerClient(url)
        tensor = module.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        answers.append(client.infer(model, [tensor]).as_numpy("y"))
        client.close()
    return answers


def refused(one: Running) -> str:
    """What a container said that refused to start."""
    assert one.container.wait(timeout=60)["StatusCode"] == 14
    text: str = one.container.logs().decode()
    assert "refused" in text
    assert "tritonserver" not in text
    return text


X = np.arange(12, dtype=np.float32).reshape(3, 4)


def expected(seed: int, width: int) -> np.ndarray[Any, Any]:
    return (X @ kit.weights(seed, width)).sum(axis=1, keepdims=True)


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
    assert found["disk"] <= 300e6
    assert found["pull"] <= 110e6
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


def test_the_openvino_image_serves(
    world: World, run: Callable[..., Running], tmp_path: Path
) -> None:
    models = {"ir": ("1.0.0", kit.openvino_model(5, 64, tmp_path))}
    folder = kit.publish_models(tmp_path / "build", "cpu-openvino", "openvino", models)
    name = world.build(folder, "--name", "repo-builder-test/openvino:1")
    for answer in infer(ready(run(name)), "ir", X):
        np.testing.assert_allclose(answer, expected(5, 64), rtol=1e-2, atol=0.1)


def test_the_npu_image_has_its_plugin_and_the_bases_driver(
    world: World,
    run: Callable[..., Running],
    tmp_path: Path,
    unavailable: Callable[[str], NoReturn],
) -> None:
    """No NPU is here: the driver's libraries are empty ones, and the model runs on the CPU."""
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    models = {"ir": ("1.0.0", kit.openvino_model(5, 64, tmp_path))}
    folder = kit.publish_models(tmp_path / "build", "intel-npu", "openvino", models)
    assert "name it by --base" in world.cli("images", "build", folder, fails=2).stderr
    context = tmp_path / "base"
    context.mkdir()
    libraries = ("libze_loader.so.1", "libze_intel_npu.so.1", "libnpu_driver_compiler.so")
    for name in libraries:
        command = ["gcc", "-shared", "-xc", "/dev/null", "-o", context / name]
        subprocess.run(command, check=True)
    text = f"FROM {world.base}\nCOPY {' '.join(libraries)} /usr/lib/x86_64-linux-gnu/\n"
    (context / "Dockerfile").write_text(text)
    base = "repo-builder-test/npu-base:1"
    world.client.images.build(path=str(context), tag=base, network_mode="none", forcerm=True)
    done = world.cli("images", "build", folder, "--base", base, "--name", "repo-builder-test/npu:1")
    one = ready(run(done.stdout.strip()))
    np.testing.assert_allclose(infer(one, "ir", X)[0], expected(5, 64), rtol=1e-2, atol=0.1)
    look = (
        "import ctypes, openvino, os\n"
        "plugin = os.path.dirname(openvino.__file__) + '/libs/libopenvino_intel_npu_plugin.so'\n"
        f"[print(ctypes.CDLL(name)) for name in (plugin, *{libraries})]\n"
        "open('/var/cache/npu/x', 'w')"
    )
    code, output = one.container.exec_run(["python3", "-c", look])
    assert b"libnpu_driver_compiler.so" in output, output
    assert (code, b"Read-only file system" in output) == (1, True), output
    world.client.images.remove(base, force=True)


PYTHON_MODEL = b"""
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        arrays = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        sums = [a.sum(axis=1, keepdims=True).astype(np.float32) for a in arrays]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", s)]) for s in sums]
"""

# A base laid out as NVIDIA lays out its own images, which cannot be had here: the genuine server,
# its Python backend and numpy, and no CUDA.
STAND_IN = """
FROM {base}
COPY wheels/ /wheels/
RUN PYTHONPATH=/wheels/{pip} python3 -m pip install --quiet --root-user-action=ignore --no-index \\
    --no-deps --target /usr/local/lib/python3.11/dist-packages /wheels/numpy-*.whl && \\
    PYTHONPATH=/wheels/{pip} python3 -m pip install --quiet --root-user-action=ignore --no-index \\
    --no-deps --target /site /wheels/nvidia_pytriton-*.whl && \\
    cp -a /site/pytriton/tritonserver /opt/tritonserver && \\
    cp -a /site/nvidia_pytriton.libs /opt/tritonserver/lib && \\
    cp /opt/tritonserver/python_backend_stubs/3.11/* /opt/tritonserver/backends/python/ && \\
    rm -rf /site /wheels
"""


@pytest.fixture(scope="session")
def ngc(world: World, cpu_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The stand-in for NVIDIA's images."""
    world.build(cpu_repository)  # so that the wheels are here
    context = tmp_path_factory.mktemp("ngc")
    wheels = Path(world.env["REPO_BUILDER_IMAGE_CACHE"]).glob("wheels/*/*.whl")
    (context / "wheels").mkdir()
    for wheel in (path for path in wheels if "aarch64" not in path.name):
        shutil.copy(wheel, context / "wheels")
    pip = next(path.name for path in (context / "wheels").glob("pip-*.whl"))
    (context / "Dockerfile").write_text(STAND_IN.format(base=world.base, pip=pip))
    name = "repo-builder-test/ngc:1"
    world.client.images.build(path=str(context), tag=name, network_mode="none", forcerm=True)
    return name


@pytest.mark.parametrize("target", ["nvidia-gpu", "jetson-orin-nx"])
def test_nvidias_layout_is_slimmed_and_serves(
    world: World, ngc: str, run: Callable[..., Running], tmp_path: Path, target: str
) -> None:
    models = {"sum": ("1.0.0", {"model.py": PYTHON_MODEL})}
    folder = kit.publish_models(tmp_path / "build", target, "python", models)
    own = tmp_path / "pins.yaml"
    own.write_text(f"targets: {{{target}: {{platforms: [linux/amd64]}}}}\n")
    done = world.cli("images", "build", folder, "--base", ngc, "--pins", own)
    for answer in infer(ready(run(done.stdout.strip())), "sum", X):
        np.testing.assert_allclose(answer, X.sum(axis=1, keepdims=True))


# The plan of the stand-in's TensorRT: what this model answers shows whether it was loaded.
PLANNED_MODEL = b"""
import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        planned = "PLAN" in json.loads(args["model_config"])["parameters"]
        home = Path(args["model_repository"], args["model_version"])
        plan = (home / "model.plan").read_bytes() if planned else b""
        self.factor = 3 if plan == b"plan of 10.3.0" else 1

    def execute(self, requests):
        arrays = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        sums = [self.factor * a.sum(axis=1, keepdims=True).astype(np.float32) for a in arrays]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", s)]) for s in sums]
"""
# A module that replaces itself by the one that the fake makes.
FAKE_TENSORRT = (
    (ROOT / "tests/fakes/fake_tensorrt.py").read_text()
    + """
import sys
sys.modules["tensorrt"] = module("10.3.0")
"""
)
WITH_TENSORRT = """
FROM {base}
COPY libcuda.so.1 libnvinfer.so.10 /usr/lib/x86_64-linux-gnu/
COPY tensorrt.py /usr/local/lib/python3.11/dist-packages/
"""


@pytest.fixture
def with_tensorrt(
    world: World, ngc: str, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> Iterator[str]:
    """The stand-in with a pretended GPU and the fake of TensorRT's Python module."""
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    context = tmp_path / "with-tensorrt"
    context.mkdir()
    jetson.compile_libraries(context)
    (context / "tensorrt.py").write_text(FAKE_TENSORRT)
    (context / "Dockerfile").write_text(WITH_TENSORRT.format(base=ngc))
    name = "repo-builder-test/ngc:tensorrt"
    world.client.images.build(path=str(context), tag=name, network_mode="none", forcerm=True)
    yield name
    world.client.images.remove(name, force=True)


def planned_repository(out: Path, target: str, seed: int = 1) -> Path:
    """A repository whose model asks for a plan that is made with the image."""
    model = kit.onnx_model(seed, 8)
    asked = request.Request(model=digest.of_bytes(model)).to_json()
    files = {
        "model.onnx": model,
        "model.py": PLANNED_MODEL,
        request.FILE: json.dumps(asked).encode(),
    }
    config = kit.CONFIG.format(name="sum", backend="python")
    parameter = 'parameters { key: "PLAN" value: { string_value: "model.plan" } }\n'
    return kit.publish_models(
        *(out, target, "onnxruntime", {"sum": ("1.0.0", files)}),
        configs={"configs/tensorrt.pbtxt": config + parameter},
        record={"compiler": {"at": "image"}},
    )


def test_a_plan_made_with_the_image_is_served_and_checked(
    world: World, with_tensorrt: str, run: Callable[..., Running], tmp_path: Path
) -> None:
    """No TensorRT is here: the plan is made by a fake, by the program and stage that are ours."""
    folder = planned_repository(tmp_path / "build", "nvidia-gpu")
    own = tmp_path / "pins.yaml"
    own.write_text("families: {nvidia: {compiler: []}}\n")
    world.cli("keys", "new", "planner")
    options = ("--base", with_tensorrt, "--pins", own, "--name", "repo-builder-test/planned:1")
    done = world.cli("images", "build", folder, "--key", "planner", *options)
    assert "building the TensorRT plan" in done.stderr
    name = done.stdout.strip()
    for answer in infer(ready(run(name)), "sum", X):
        np.testing.assert_allclose(answer, 3 * X.sum(axis=1, keepdims=True))
    assert "signed and whole" in world.cli("verify", name).stderr
    # What was made is kept, so nothing is made again, and the image is the same one.
    before = world.client.images.get(name).id
    again = world.cli("images", "build", folder, "--key", "planner", *options)
    assert "Step " not in again.stderr
    assert world.client.images.get(name).id == before

    other = tmp_path / "model.plan"
    other.write_bytes(b"another")
    changed = {str(other): {"bind": "/models/sum/1000000/model.plan", "mode": "ro"}}
    assert "sum/1000000/model.plan: sha256" in refused(run(name, volumes=changed))
    empty = tmp_path / "empty"
    empty.touch()
    for file, said in (("plans.json", "not in the manifest"), ("plans.json.sig", "damaged")):
        hidden = {str(empty): {"bind": f"/etc/repo-builder/{file}", "mode": "ro"}}
        assert said in refused(run(name, volumes=hidden))

    # The same by hand, without a key; and with one, which a plain build cannot use.
    for key, serves in ((), True), (("--key", "planner"), False):
        world.cli("images", "build", folder, *key, *options, "--context-only")
        plain, _ = world.client.images.build(
            path=str(folder.parent / "images" / "nvidia-gpu"),
            network_mode="none",
            tag="repo-builder-test/planned:plain",
            forcerm=True,
        )
        if serves:
            answer = infer(ready(run(plain.id)), "sum", X)[0]
            np.testing.assert_allclose(answer, 3 * X.sum(axis=1, keepdims=True))
        else:
            assert "plans.json is not signed" in refused(run(plain.id))


def test_a_spec_asks_for_plans_made_with_the_image(world: World, tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "model_specs" / "digits", specs / "digits")
    text = (ROOT / "model_specs" / "digits.yaml").read_text()
    asked = "\noptimize:\n  tensorrt: {compile_at: image}\n"
    (specs / "digits.yaml").write_text(text.replace("\noptimize:\n", asked))
    places = ("--store", tmp_path / "store", "--out", tmp_path / "build", "--no-images")
    world.cli("build", specs, "--target", "jetson-orin-nx", *places)
    world.cli("images", "build", tmp_path / "build" / "jetson-orin-nx", "--context-only")
    dockerfile = (tmp_path / "build/images/jetson-orin-nx/Dockerfile").read_text()
    assert "COPY models/digits/ /models/digits/\nRUN python3 -m repo_builder.trt" in dockerfile
    assert '"--model-config-name=tensorrt"' in dockerfile
    assert "backends/tensorrt:" in dockerfile
    assert "backends/onnxruntime:" not in dockerfile
    assert list((tmp_path / "build/images/jetson-orin-nx/compiler/wheels").glob("tensorrt_*.whl"))


# Serves as long as no plan is asked of it, as a Triton does that cannot load the plan.
REFUSING_MODEL = PLANNED_MODEL.replace(
    b"        home = ", b"        assert not planned, 'not this plan'\n        home = "
)


@pytest.fixture
def volume(world: World) -> Iterator[str]:
    """A new volume; ask for it before `run`, whose containers must go first."""
    made = world.client.volumes.create()
    yield made.name
    made.remove()


def test_a_device_builds_its_plans_at_its_first_start(
    world: World, with_tensorrt: str, volume: str, run: Callable[..., Running], tmp_path: Path
) -> None:
    """No TensorRT is here: a fake makes plans, which models of the Python backend load."""
    models = {}
    for seed, (name, code) in enumerate({"sum": PLANNED_MODEL, "stays": REFUSING_MODEL}.items()):
        model = kit.onnx_model(seed, 8)
        asked = json.dumps(request.Request(model=digest.of_bytes(model)).to_json())
        files = {"model.onnx": model, "model.py": code, request.FILE: asked.encode()}
        models[name] = "1.0.0", files
    config = kit.CONFIG.format(name="", backend="python")
    parameter = 'parameters { key: "PLAN" value: { string_value: "model.plan" } }\n'
    folder = kit.publish_models(
        *(tmp_path / "build", "jetson-orin-nx", "python", models),
        configs={"configs/tensorrt.pbtxt": config + parameter},
        record={"compiler": {"at": "device"}},
    )
    own = tmp_path / "pins.yaml"
    own.write_text(
        "targets: {jetson-orin-nx: {platforms: [linux/amd64]}}\n"
        "families: {jetson: {compiler: []}}\n"
    )
    options = ("--base", with_tensorrt, "--pins", own, "--name", "repo-builder-test/first:1")
    name = world.cli("images", "build", folder, *options).stdout.strip()
    sums = X.sum(axis=1, keepdims=True)

    one = ready(run(name))
    assert b"mount a volume at /var/cache/repo-builder; models stay" in one.container.logs()
    for served in ("sum", "stays"):
        np.testing.assert_allclose(infer(one, served, X)[0], sums)

    driver = tmp_path / "with-tensorrt" / "libcuda.so.1"  # as NVIDIA's runtime brings it
    mounts = {
        str(driver): {"bind": "/usr/lib/x86_64-linux-gnu/libcuda.so.1", "mode": "ro"},
        volume: {"bind": "/var/cache/repo-builder", "mode": "rw"},
    }
    for state in ("built", "cached"):
        one = ready(run(name, volumes=mounts))
        status = kit.wait_for(lambda one=one: ended(one), "the end of the first start")
        assert (status["sum"]["state"], status["sum"]["serving"]) == (state, "tensorrt")
        assert (status["stays"]["state"], status["stays"]["serving"]) == ("failed", "onnxruntime")
        assert "Triton refuses the plan" in status["stays"]["reason"]
        assert "not this plan" in status["stays"]["reason"]
        np.testing.assert_allclose(infer(one, "sum", X)[0], 3 * sums)
        np.testing.assert_allclose(infer(one, "stays", X)[0], sums)
        for module, url in ((tritonclient.grpc, one.grpc), (tritonclient.http, one.http)):
            client = module.InferenceServerClient(url)
            with pytest.raises(InferenceServerException, match="restricted"):
                client.unload_model("sum")
            client.close()
        second = ready(run(name, volumes=mounts))
        assert b"is in use by another container" in second.container.logs()
        np.testing.assert_allclose(infer(second, "sum", X)[0], sums)
        second.container.stop(timeout=30)
        assert second.container.wait()["StatusCode"] == 0
        # After a model of the Python backend failed to load, this Triton ends at its time limit.
        one.container.kill()
        one.container.wait()


def ended(one: Running) -> Any:
    """What the status file says once each model is served by its plan, or has failed."""
    look = "print(open('/var/cache/repo-builder/status.json').read())"
    code, text = one.container.exec_run(["python3", "-c", look])
    status = json.loads(text) if code == 0 else {}
    states = [
        model["state"] == "failed" or model["serving"] == "tensorrt" for model in status.values()
    ]
    return status if states and all(states) else None


def test_the_jetsons_image_has_what_builds_plans(world: World, tmp_path: Path) -> None:
    places = ("--store", tmp_path / "store", "--out", tmp_path / "build", "--no-images")
    world.cli("build", ROOT / "model_specs/digits.yaml", "--target", "jetson-orin-nx", *places)
    world.cli("images", "build", tmp_path / "build" / "jetson-orin-nx", "--context-only")
    context = tmp_path / "build/images/jetson-orin-nx"
    (wheel,) = (context / "wheels").glob("tensorrt_*.whl")
    unpacked = f"-e wheels/{wheel.name} rootfs/opt/repo-builder/first-start/"
    assert unpacked in (context / "Dockerfile").read_text()
    program = context / "rootfs/opt/repo-builder/first-start"
    command = [sys.executable, "-S", "-m", "repo_builder.trt", "models", "plans"]
    done = subprocess.run(command, cwd=program, capture_output=True, text=True, check=False)
    assert "builds of images must get the GPU" in done.stderr or done.returncode == 0


def test_one_image_has_one_place_for_plans(world: World, tmp_path: Path) -> None:
    folder = planned_repository(tmp_path / "build", "jetson-orin-nx")
    manifest = folder / "manifest.json"
    raw = json.loads(manifest.read_text())
    raw["models"]["other"] = {**raw["models"]["sum"], "compiler": {"at": "device"}}
    shutil.copytree(folder / "models/sum", folder / "models/other")
    manifest.write_text(json.dumps(raw))
    done = world.cli("images", "build", folder, "--context-only", fails=2)
    assert "sum gets its plan with the image, other on the device" in done.stderr


def test_an_engine_without_a_gpu_makes_no_plans_and_says_so(
    world: World, ngc: str, tmp_path: Path
) -> None:
    folder = planned_repository(tmp_path / "build", "jetson-orin-nx")
    own = tmp_path / "pins.yaml"
    own.write_text(
        "targets: {jetson-orin-nx: {platforms: [linux/amd64]}}\n"
        "families: {jetson: {compiler: []}}\n"
    )
    done = world.cli("images", "build", folder, "--base", ngc, "--pins", own, fails=13)
    assert "no NVIDIA driver here" in done.stderr
    assert "builds of images must get the GPU" in done.stderr
    own.write_text("targets: {jetson-orin-nx: {family: cpu, platforms: [linux/amd64]}}\n")
    done = world.cli("images", "build", folder, "--base", ngc, "--pins", own, fails=2)
    assert "the family 'cpu' has no stage that builds TensorRT plans" in done.stderr


def test_the_qualcomm_image_builds_and_serves_on_its_cores(
    world: World, run: Callable[..., Running], tmp_path: Path
) -> None:
    """On x86-64, whose wheel of ONNX Runtime QNN has the same layout; no Hexagon is here."""
    models = {"one": ("1.0.0", {"model.onnx": kit.onnx_model(1, WIDTHS["one"])})}
    folder = kit.publish_models(tmp_path / "build", "snapdragon-qcs8275", "onnxruntime", models)
    own = tmp_path / "pins.yaml"
    sha256 = "c56c01562b8534fe8980cfea4601408d950c065f8251fb862ce82101c52c9849"
    own.write_text(
        "targets: {snapdragon-qcs8275: {platforms: [linux/amd64]}}\n"
        f"packages: {{onnxruntime-qnn: {{sha256: {{amd64: {sha256}}}}}}}\n"
    )
    done = world.cli("images", "build", folder, "--base", world.base, "--pins", own)
    one = ready(run(done.stdout.strip()))
    np.testing.assert_allclose(infer(one, "one", X)[0], expected(1, WIDTHS["one"]), rtol=1e-4)
    code, output = one.container.exec_run(
        ["python3", "-c", "import onnxruntime_qnn as q; print(q.get_library_path())"]
    )
    assert (code, b"libonnxruntime_providers_qnn.so" in output) == (0, True), output


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
