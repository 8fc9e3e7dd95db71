"""Bad input at the command line: one clear line, an exit code, nothing lost, no traceback."""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import disks
import numpy as np
import onnx
import onnx.parser
import pytest

from repo_builder.base import digest

GOOD = "(float[N,3] x) => (float[N,2] y) <float[3,2] w = {1,2,3,4,5,6}> { y = MatMul(x, w) }"
ROWS = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)


def model(graph: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {graph}')


def external(location: str) -> onnx.ModelProto:
    made = model(GOOD)
    (weights,) = made.graph.initializer
    weights.ClearField("float_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return made


def nan() -> Any:
    rows = ROWS.copy()
    rows[7, 1] = np.nan
    return rows


# INT_MIN / -1 traps on x86: a real crash, in the middle of a run.
CRASHES = """(int32[N,3] x) => (int32[N,3] y)
    <int32[1] zero = {0}, int32[1] least = {-2147483648}, int32[1] minus = {-1}>
    { z = Mul(x, zero)  l = Add(z, least)  y = Div(l, minus) }"""

MODELS: dict[str, tuple[bytes | onnx.ModelProto, str]] = {
    "truncated": (model(GOOD).SerializeToString()[:-9], "not an ONNX model, or cut short; export"),
    "not-onnx": (b"just some text", "not an ONNX model"),
    "empty-graph": (model("(float[N,3] x) => (float[N,3] x) {}"), "the graph is empty: it has no"),
    "new-opset": (model("(float[N] x) => (float[N] y) { y = Relu(x) }", 99), "opset 99 is newer"),
    "external-missing": (external("gone.bin"), "external data file 'gone.bin' is missing; put it"),
    "external-escapes": (external("../w.bin"), "'../w.bin' points outside the model's folder"),
    "crashes": (model(CRASHES), "import crashed (Floating point exception); log: "),
}
DATA: dict[str, tuple[str, dict[str, Any], str]] = {
    "nan": ("calibration", {"x": nan()}, "'x' has NaN or infinity in 1 rows, first row 7; remove"),
    "shape": ("calibration", {"x": ROWS[:, :2]}, "shape [40, 2], the model needs FP32 [N, 3]"),
    "type": ("calibration", {"x": ROWS.astype(int)}, "'x' is int64, not float32; convert it"),
    "no-rows": ("calibration", {"x": ROWS[:0]}, "'x' is empty; save at least one row"),
    "few": ("calibration", {"x": ROWS[:5]}, "'x' has 5 rows, 30 samples are asked; save more"),
    "labels": (
        "evaluation",
        {"x": ROWS, "label": np.zeros(39, int)},
        "'label' has 39 labels for 40 rows; save one label a row",
    ),
}


class Workplace:
    """Specs of small models, with a store and an output of their own; `good` is one of them."""

    def __init__(self, folder: Path) -> None:
        self.specs, self.store, self.out = folder / "specs", folder / "store", folder / "build"
        self.specs.mkdir()
        self.add("good", model(GOOD))

    def add(self, name: str, content: bytes | onnx.ModelProto, more: str = "") -> None:
        raw = content if isinstance(content, bytes) else content.SerializeToString()
        (self.specs / f"{name}.onnx").write_bytes(raw)
        (self.specs / f"{name}.yaml").write_text(
            f"name: {name}\nversion: 1.0.0\nsource: {{onnx: {name}.onnx}}\ntargets: [cpu]\n{more}"
        )

    def add_with_data(self, name: str, **arrays: dict[str, Any]) -> None:
        """GOOD in int8, with calibration and evaluation data, of which `arrays` are other ones."""
        usual = {"calibration": {"x": ROWS}, "evaluation": {"x": ROWS, "label": np.zeros(40, int)}}
        for kind, data in (usual | arrays).items():
            np.savez(self.specs / f"{name}-{kind}.npz", **data)
        self.add(
            name,
            model(GOOD),
            "optimize: {precision: int8, quantization: {method: percentile, percentile: 99.9}}\n"
            f"data:\n  calibration: {{path: {name}-calibration.npz, samples: 30}}\n"
            f"  evaluation: {{path: {name}-evaluation.npz, metric: accuracy,"
            " outputs: {scores: y}}\n",
        )

    def command(self, *options: object) -> list[str]:
        where = ("--store", self.store, "--out", self.out)
        return [sys.executable, "-m", "repo_builder", "build", *map(str, (self.specs, *where)),
                *map(str, options)]  # fmt: skip

    def run(self, *options: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            self.command(*options), capture_output=True, text=True, check=False, **kwargs
        )
        assert "Traceback" not in ended.stderr
        return ended

    def build(self) -> dict[str, Any]:
        ended = self.run("--json")
        assert ended.returncode == 0, ended.stderr
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    def start(self, **kwargs: Any) -> subprocess.Popen[str]:
        """A build in a session of its own, by which all its processes are known."""
        return subprocess.Popen(
            self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **kwargs,
        )  # fmt: skip

    def check_output(self) -> None:
        """What is published is whole: each file has the digest that the manifest says."""
        if not (self.out / "cpu").exists():
            return
        manifest = json.loads((self.out / "cpu" / "manifest.json").read_text())
        for name, record in manifest["models"].items():
            for file, (sha256, _) in record["files"].items():
                assert digest.of_file(self.out / "cpu" / "models" / name / file) == sha256


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Any]:
    """One build of everything that is bad, and `good`."""
    place = Workplace(tmp_path_factory.mktemp("bad"))
    for name, (content, _) in MODELS.items():
        place.add(name, content)
    for name, (kind, arrays, _) in DATA.items():
        place.add_with_data(name, **{kind: arrays})
    return place, place.run()


def test_what_is_bad_stops_nothing_else(judged: tuple[Workplace, Any]) -> None:
    place, ended = judged
    assert ended.returncode == 6
    report = json.loads((place.out / "report.json").read_text())
    status = {row["name"]: row["status"] for row in report["rows"]}
    assert status == {"good": "built", **dict.fromkeys([*MODELS, *DATA], "failed")}
    assert (place.out / "cpu/models/good/1000000/model.onnx").is_file()
    assert [p.name for p in (place.out / "cpu" / "models").iterdir()] == ["good"]


@pytest.mark.parametrize("name", [*MODELS, *DATA])
def test_a_bad_model_or_bad_data_is_a_line(judged: tuple[Workplace, Any], name: str) -> None:
    if name == "crashes" and platform.machine() != "x86_64":
        pytest.skip("this division traps on x86 only")
    _, ended = judged
    said = [line for line in ended.stderr.splitlines() if line.startswith(f"  {name}@cpu: ")]
    expected = MODELS[name][1] if name in MODELS else DATA[name][2]
    assert any(expected in line for line in said), said


def test_a_batch_dimension_that_lies_is_not_used(place: Workplace) -> None:
    lies = model("(float[N,4] x) => (float[N,4] y) <int64[2] s = {1,4}> { y = Reshape(x, s) }")
    place.add("lies", lies)
    place.build()
    config = (place.out / "cpu/models/lies/config.pbtxt").read_text()
    assert "max_batch_size: 0" in config
    assert "dynamic_batching" not in config
    place.add("lies", lies, "serving: {max_batch_size: 8}\n")
    ended = place.run()
    assert ended.returncode == 6
    why = "8, but the model has no batch dimension: dimension 0 of output 'y' is fixed at 1"
    assert f"lies.yaml: serving.max_batch_size: {why}; write 0" in ended.stderr
    assert (place.out / "cpu/models/lies/config.pbtxt").read_text() == config


def test_lack_of_memory_is_a_line_and_no_fact_about_the_model(place: Workplace) -> None:
    place.add(
        "huge",
        model(
            "(float[N,1] x) => (float[N,1] y) <int64[2] s = {1,10000000000}, int64[1] a = {1}>"
            " { e = Expand(x, s)  y = ReduceSum(e, a) }"
        ),
    )
    limit = (16 << 30, 16 << 30)
    for _ in range(2):  # the second finds nothing remembered
        ended = place.run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))
        assert ended.returncode == 6
        assert "huge@cpu: import ran out of memory; use fewer --jobs" in ended.stderr
    assert (place.out / "cpu/models/good/1000000/model.onnx").is_file()


def test_nothing_good_at_all_is_still_reported(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    place.add("good", b"")
    ended = place.run()
    assert ended.returncode == 6
    assert "good.onnx: the file is empty" in ended.stderr
    assert (place.out / "report.html").is_file()
    assert not (place.out / "cpu").exists()


@pytest.mark.parametrize("which", ["store", "out"])
def test_a_full_disk(place: Workplace, which: str, unavailable: Callable[[str], NoReturn]) -> None:
    with disks.small(getattr(place, which), 400, unavailable) as disk:
        filler = disks.fill(disk)
        ended = place.run()
        assert ended.returncode in (6, 8, 9)
        assert "No space left on device; free some space" in ended.stderr
        filler.unlink()
        place.build()
        place.add("second", model("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"))
        filler = disks.fill(disk)
        assert place.run().returncode in (6, 8, 9)
        place.check_output()
        assert (place.out / "cpu/models/good/1000000/model.onnx").is_file()
        filler.unlink()
        place.build()
        place.check_output()


def test_an_output_that_is_read_only(
    place: Workplace, unavailable: Callable[[str], NoReturn]
) -> None:
    place.build()
    place.add("second", model("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"))
    with disks.read_only(place.out, unavailable):
        ended = place.run()
        assert ended.returncode == 9
        (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert f"{place.out}" in line
        assert "make it writable" in line
    assert {row["status"] for row in place.build()["rows"]} == {"cached"}


def family(session: int) -> list[int]:
    """The processes of a session that have not ended."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(path.name))
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_ctrl_c_stops_at_once_and_the_next_build_goes_on(place: Workplace) -> None:
    for number in range(4):
        place.add_with_data(f"more{number}")
    build = place.start()
    assert build.stderr
    line = next(line for line in build.stderr if " import " in line)  # [1/9] ✓ digits import 0s
    first = line.partition("✓ ")[2].split()[0]
    first = first.rstrip(",").removesuffix("@cpu")  # models that share a step are listed
    assert len(family(build.pid)) > 1
    begun = time.monotonic()
    os.killpg(build.pid, signal.SIGINT)
    said = build.stderr.read()
    assert build.wait(10) == 130
    wait_until(lambda: not family(build.pid))
    assert time.monotonic() - begun < 2
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in said
    rows = {row["id"]: row for row in place.build()["rows"]}
    assert "import" not in rows[f"{first}@cpu"]["ran"]
    place.check_output()


def test_signals_in_a_row_end_a_build_as_one_does(place: Workplace) -> None:
    """`timeout` sends two SIGTERMs; people press Ctrl-C again."""
    for number in range(4):
        place.add_with_data(f"more{number}")
    for signalled in (signal.SIGTERM, signal.SIGINT) * 3:
        build = place.start()
        assert build.stderr
        wait_until(lambda pid=build.pid: len(family(pid)) > 2, 60)
        build.send_signal(signalled)
        begun = time.monotonic()
        while build.poll() is None:  # until it is gone, so that no instant is spared
            build.send_signal(signalled)
            assert time.monotonic() - begun < 8, "it goes on"
        said = build.stderr.read()
        wait_until(lambda pid=build.pid: not family(pid))
        assert build.returncode in (130, -signalled)  # the latter when Python had as good as ended
        assert "Traceback" not in said


def test_a_build_in_the_background_of_a_script_can_be_ended(place: Workplace) -> None:
    """A shell starts such a one with Ctrl-C ignored; SIGTERM ends it all the same."""
    for number in range(4):
        place.add_with_data(f"more{number}")
    build = place.start(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert build.stderr
    next(line for line in build.stderr if "import" in line)
    begun = time.monotonic()
    build.terminate()
    said = build.stderr.read()
    assert build.wait(10) == 130
    wait_until(lambda: not family(build.pid))
    assert time.monotonic() - begun < 2
    assert said.splitlines()[-1] == "stopped"


def test_kill_9_at_any_instant_loses_nothing(place: Workplace) -> None:
    chance = random.Random(time.time_ns())  # noqa: S311
    begun = time.monotonic()
    place.add_with_data("more")
    place.build()
    usual = time.monotonic() - begun
    spec = place.specs / "more.yaml"
    for number in range(6):
        spec.write_text(spec.read_text().replace("99.9", f"99.9{number}", 1))
        build = place.start()
        try:
            build.wait(chance.uniform(0, usual))
        except subprocess.TimeoutExpired:
            build.kill()
            build.wait()
        wait_until(lambda pid=build.pid: not family(pid))
        place.check_output()
        assert (place.out / "cpu/models/more/1000000/model.onnx").is_file()
    place.build()
    place.check_output()
    assert {row["status"] for row in place.build()["rows"]} == {"cached"}
    assert not any((place.store / "tmp").glob("*"))  # nothing is left of what was killed
    verify = [sys.executable, "-m", "repo_builder", "cache", "verify", "--store", place.store]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0


def test_a_taken_port(place: Workplace) -> None:
    place.build()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "repo_builder", "serve", place.out / "cpu", "--grpc-port",
             str(port), "--http-port=0", "--metrics-port=0"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 11
    assert f"127.0.0.1:{port} for grpc: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_reader_that_has_enough_and_a_full_disk_behind_stdout(place: Workplace) -> None:
    plan = [sys.executable, "-m", "repo_builder", "plan", place.specs, "--store", place.store]
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(plan, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(plan, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 9
    assert ended.stderr.endswith("error: stdout: No space left on device; free some space\n")
