"""What the image tests share: repositories to put in images, a real registry, a faulty network."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from repo_builder.base import digest
from repo_builder.base.artifact import Artifact, Blob, Entry
from repo_builder.repository.publish import Model, publish
from repo_builder.spec.types import Version

ROOT = Path(__file__).parents[2]
WIDTHS = {"one": 100, "two": 2000, "three": 500}
CONFIG = """name: "{name}"
backend: "{backend}"
max_batch_size: 0
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ -1, 1 ] }} ]
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
"""


def weights(seed: int, width: int) -> np.ndarray[Any, Any]:
    """Deterministic weights that do not compress."""
    return np.random.default_rng(seed).normal(size=(4, width)).astype(np.float32)


def onnx_model(seed: int, width: int) -> bytes:
    """y = sum(x @ w): one row of one number for each row of x."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("ReduceSum", ["h", "axes"], ["y"], keepdims=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weights(seed, width), "w"),
            numpy_helper.from_array(np.array([1]), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def openvino_model(seed: int, width: int, folder: Path) -> dict[str, bytes]:
    """The same model as OpenVINO IR."""
    import openvino

    source = folder / "source.onnx"
    source.write_bytes(onnx_model(seed, width))
    openvino.save_model(
        openvino.convert_model(source), folder / "model.xml", compress_to_fp16=False
    )
    return {name: (folder / name).read_bytes() for name in ("model.xml", "model.bin")}


def publish_models(
    out: Path,
    target: str,
    backend: str,
    models: Mapping[str, tuple[str, Mapping[str, bytes]]],
    *,
    configs: Mapping[str, str] | None = None,
    record: Mapping[str, Any] | None = None,
) -> Path:
    """Publish a repository as a build does: name -> (version, files of the version folder).

    Each model also gets `configs` (path below its folder -> text), and its record `record`.
    """

    def entry(files: Mapping[str, bytes]) -> Entry:
        blobs = {
            name: Blob(digest.of_bytes(content), len(content)) for name, content in files.items()
        }
        return Entry(digest.of_json(sorted(files)), {}, Artifact(blobs), {}, 0.0)

    contents = {
        digest.of_bytes(content): content
        for _, files in models.values()
        for content in files.values()
    }

    def fetch(made: Entry, folder: Path) -> None:
        for name, blob in made.artifact.files.items():
            (folder / name).write_bytes(contents[blob.sha256])

    made = [
        Model(
            name,
            Version(*map(int, version.split("."))),
            {
                "config.pbtxt": CONFIG.format(name=name, backend=backend).encode(),
                **{path: text.encode() for path, text in (configs or {}).items()},
            },
            entry(files),
            {"tools": {}, **(record or {})},
        )
        for name, (version, files) in models.items()
    ]
    return publish(out, target, made, lambda _: False, fetch, lambda _: None).folder


def environment(folder: Path) -> dict[str, str]:
    """What the command line gets: keys of these tests' own, and a cache that tests share."""
    # Workers of one run have folders side by side.
    shared = folder.parents[1] if "PYTEST_XDIST_WORKER" in os.environ else folder
    return {
        "PYTHONPATH": str(ROOT),
        "REPO_BUILDER_KEYS": str(folder / "keys"),
        "REPO_BUILDER_IMAGE_CACHE": os.environ.get(
            "REPO_BUILDER_IMAGE_CACHE", str(shared / "image-cache")
        ),
    }


@dataclass(frozen=True)
class World:
    """An engine, the base image on it, and folders of these tests' own."""

    client: Any
    base: str
    folder: Path
    env: Mapping[str, str]

    def cli(self, *args: object, fails: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run repo-builder; the exit code is `fails`, and a failure no traceback."""
        done = subprocess.run(
            [sys.executable, "-m", "repo_builder", *map(str, args)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, **self.env, **env},
            timeout=600,
            check=False,
        )
        assert done.returncode == fails, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        return done

    def build(self, folder: Path, *args: object) -> str:
        """Build the image of a repository; returns its reference."""
        return self.cli("images", "build", folder, "--base", self.base, *args).stdout.strip()


def repository(out: Path, three: tuple[str, int] = ("1.1.0", 3)) -> Path:
    """A published repository for the target `cpu`; `three` is a model's version and seed."""
    versions = {"one": ("1.0.0", 1), "two": ("1.0.0", 2), "three": three}
    models = {
        name: (version, {"model.onnx": onnx_model(seed, WIDTHS[name])})
        for name, (version, seed) in versions.items()
    }
    return publish_models(out, "cpu", "onnxruntime", models)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 60) -> Any:
    """The first true value of a condition that is asked again and again."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)
    return value


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether something listens on a port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.contextmanager
def registry(folder: Path, htpasswd: str = "") -> Iterator[str]:
    """A real registry with its storage in `folder`; yields `localhost:port`."""
    port = free_port()
    folder.mkdir(parents=True)
    auth = ""
    if htpasswd:
        (folder / "htpasswd").write_text(htpasswd)
        auth = f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: warn}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n{auth}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: answers(port), "the registry")
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def http_ok(address: str, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def have_registry() -> bool:
    """Whether the registry is installed."""
    return shutil.which("docker-registry") is not None


def registry_json(address: str, path: str) -> Any:
    """What the registry's own API answers: a manifest."""
    import json

    connection = http.client.HTTPConnection(address, timeout=10)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    connection.request("GET", path, headers={"Accept": kind})
    return json.loads(connection.getresponse().read())


@contextlib.contextmanager
def faulty(address: str, faults: list[int]) -> Iterator[str]:
    """A way to the registry at `address` that refuses manifests with each of `faults` first."""
    host, _, port = address.partition(":")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if faults and self.command == "PUT" and "/manifests/" in self.path:
                content = b'{"errors": [{"code": "DENIED", "message": "access is denied"}]}'
                self.send_response(faults.pop(0))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return
            onward = http.client.HTTPConnection(host, int(port), timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
                headers["Content-Length"] = str(len(body))
            onward.request(self.command, self.path, body, headers)
            answer = onward.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            if not answer.getheader("Content-Length"):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _pass  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def cut_socket(target: str, folder: Path, sign: bytes) -> Iterator[str]:
    """A unix socket that leads to the engine's, and breaks off once the engine says `sign`."""
    path = folder / "cut.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def copy(source: socket.socket, sink: socket.socket, watch: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if watch and sign in data:
                    sink.sendall(data.partition(sign)[0])
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                engine = socket.socket(socket.AF_UNIX)
                engine.connect(target)
                threading.Thread(target=copy, args=(client, engine, False), daemon=True).start()
                threading.Thread(target=copy, args=(engine, client, True), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"unix://{path}"
    finally:
        server.close()


def as_root() -> bool:
    """Whether this may mount and change users."""
    return os.geteuid() == 0
