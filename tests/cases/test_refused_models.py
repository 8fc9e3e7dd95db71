"""What Triton would refuse of one model costs that model, and its earlier version stays."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import onnx.parser
from workplace import repo_builder

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
PLAIN = HEAD + "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"
FACTOR = HEAD + "g (float[N, 4] x, float[1] s) => (float[N, 4] y) { y = Mul(x, s) }"
LOOK_UP = (
    HEAD + "g (int64[N, 2] id) => (float[N, 2] y) <float[3] table = {1, 2, 3}>"
    " { y = Gather(table, id) }"
)
WARMUP = """serving:
  model_warmup:
    - name: draw
      batch_size: 1
      inputs: {id: {data_type: TYPE_INT64, dims: [2, 2], random_data: true}}
"""
SCALAR = FACTOR.replace("float[1] s", "float s")


def write(folder: Path, name: str, text: str, version: str = "1.0.0", more: str = "") -> None:
    folder.mkdir(exist_ok=True)
    onnx.save(onnx.parser.parse_model(text), folder / f"{name}.onnx")
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\nversion: {version}\nsource: {{onnx: {name}.onnx}}\n"
        f"targets: [{'cpu' if more else 'cpu-openvino'}]\n{more}"
    )


def test_a_refused_model_takes_no_other_with_it(tmp_path: Path) -> None:
    specs, out = tmp_path / "specs", tmp_path / "out"
    build = ("build", specs, "--out", out, "--store", tmp_path / "store", "--no-images")
    write(specs, "plain", PLAIN)
    write(specs, "factor", FACTOR)
    first = repo_builder(*build)
    assert first.returncode == 0, first.stderr

    write(specs, "factor", SCALAR, "2.0.0")
    write(specs, "fresh", PLAIN.replace("Relu", "Neg"))
    second = repo_builder(*build)
    assert second.returncode == 6
    lines = [line for line in second.stderr.splitlines() if "factor@cpu-openvino:" in line]
    assert len(lines) == 1
    assert "Triton would refuse it: factor/config.pbtxt" in lines[0]
    assert "'s' is a scalar in the model; openvino serves no scalars" in lines[0]
    assert "1 of 3 not built" in second.stderr

    rows = {row["name"]: row for row in json.loads((out / "report.json").read_text())["rows"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "plain": "cached",
        "factor": "failed",
        "fresh": "built",
    }
    manifest = json.loads((out / "cpu-openvino" / "manifest.json").read_text())
    served = {name: record["version"] for name, record in manifest["models"].items()}
    assert served == {"plain": "1.0.0", "factor": "1.0.0", "fresh": "1.0.0"}

    third = repo_builder(*build)
    assert third.returncode == 6
    assert json.loads((out / "cpu-openvino" / "manifest.json").read_text()) == manifest


def test_a_warm_up_that_fails_is_found_by_the_build(tmp_path: Path) -> None:
    """A server in which it fails takes the model's other versions down, or does not start."""
    specs, out = tmp_path / "specs", tmp_path / "out"
    write(specs, "good", LOOK_UP, more=WARMUP.replace("random_data", "zero_data"))
    write(specs, "bad", LOOK_UP, more=WARMUP)
    ended = repo_builder("build", specs, "--out", out, "--store", tmp_path / "store", "--no-images")
    assert ended.returncode == 6
    assert "bad@cpu: the warm-up sample 'draw' fails: " in ended.stderr
    assert sorted(path.name for path in (out / "cpu" / "models").iterdir()) == ["good"]


CACHE = "serving:\n  response_cache: {enable: true}\n"


def test_a_rebuilt_version_is_not_answered_from_the_cache(tmp_path: Path) -> None:
    specs, out = tmp_path / "specs", tmp_path / "out"
    build = ("build", specs, "--out", out, "--store", tmp_path / "store", "--no-images")
    write(specs, "plain", PLAIN, more=CACHE)
    assert repo_builder(*build).returncode == 0
    write(specs, "plain", PLAIN.replace("Relu", "Neg"), more=CACHE)
    again = repo_builder(*build)
    assert again.returncode == 6
    assert "plain@cpu: response_cache is on, and version 1000000 was published" in again.stderr
    write(specs, "plain", PLAIN.replace("Relu", "Neg"), "1.0.1", more=CACHE)
    assert repo_builder(*build).returncode == 0
    manifest = json.loads((out / "cpu" / "manifest.json").read_text())
    assert manifest["models"]["plain"]["version"] == "1.0.1"
