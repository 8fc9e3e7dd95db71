"""Reading repositories as they come, and saying where, why and what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from repo_builder.base.errors import LintFailed, UsageError
from repo_builder.cli.lint import command
from repo_builder.repository.lint import fix, lint, output
from repo_builder.repository.lint.positions import Positions
from tests.unit.repository.lint.cases import ensemble
from tests.unit.repository.lint.world import BATCHED, GOOD, MLP, World, python

WIDE_ONE = "\N{FULLWIDTH DIGIT ONE}"
TEXT = """# a comment
name: "m"  # another
input [
  { name: "x" dims: [ 1, -1 ] },
  { name: "z"
    reshape: < shape: 1 > }
]
parameters { key: "a" value { string_value: "1" } }
parameters { key: 'b'
  value { string_value: "2" "3" } }
"""


@pytest.mark.parametrize(
    ("path", "line", "value"),
    [
        ("name", 2, '"m"'),
        ("input[0].dims", 4, "[ 1, -1 ]"),
        ("input[1].name", 5, '"z"'),
        ("input[1].reshape.shape", 6, "1"),
        ('parameters["a"].value.string_value', 8, '"1"'),
        ("parameters[1].value.string_value", 10, '"2" "3"'),
        ("input[1].dims", 5, None),
        ("backend", 1, None),
    ],
)
def test_positions(path: str, line: int, value: str | None) -> None:
    positions = Positions(TEXT)
    assert positions.line(path) == line
    span = positions.span(path)
    assert (TEXT[span.start : span.end] if span else None) == value


BAD = {
    "a syntax error": (b'name: "m"\ninput {\n  dims: [1, \n}', "config.pbtxt:4: error"),
    "an unknown field": (b'name: "m"\n  max_batchsize: 1\n', "config.pbtxt:2: error"),
    "a field twice": (b'name: "m"\nname: "m"\n', "config.pbtxt:2: error"),
    "an unknown value": (b"instance_group {\n kind: KIND_TPU }", "config.pbtxt:2: error"),
    "binary": (b"\x00\x01\xff\xfe" * 99, "config.pbtxt:1: error"),
    "zero bytes": (b"\x00" * 99, "config.pbtxt:1: error"),
    "two schedulers": (b"dynamic_batching {}\nsequence_batching {}", "config.pbtxt:2: error"),
    "deep nesting": (b"input { " * 5000, "config.pbtxt:1: error"),
    "a number above 64 bits": (b"max_batch_size: 99999999999999999999", "config.pbtxt:1: error"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_configs_have_a_place(tmp_path: Path, case: str) -> None:
    content, place = BAD[case]
    found = World(content, {"1/model.onnx": b""}).lint(tmp_path)
    assert [f.rule for f in found] == ["config-unreadable"]
    assert place in str(found[0])
    assert "\n" not in str(found[0])


def test_huge_configs_are_not_read(tmp_path: Path) -> None:
    World().write(tmp_path)
    os.truncate(tmp_path / "m" / "config.pbtxt", 100_000_000)
    (found,) = lint([tmp_path])
    assert "100000000 bytes" in found.what


def test_what_cannot_be_read_to_its_end_is_not_begun(tmp_path: Path) -> None:
    """A pipe would wait for ever, a device never end."""
    for name in ("pipe", "device"):
        World(None, {"1": None}).write(tmp_path, name)
    os.mkfifo(tmp_path / "pipe" / "config.pbtxt")
    (tmp_path / "device" / "config.pbtxt").symlink_to("/dev/zero")
    World(files={"1": None}).write(tmp_path, "model")
    os.mkfifo(tmp_path / "model" / "1" / "model.onnx")
    found = [(f.model, f.rule) for f in lint([tmp_path])]
    assert found == [
        ("device", "config-unreadable"),
        ("model", "file-missing"),
        ("pipe", "config-unreadable"),
    ]


def test_names_that_no_terminal_shows(tmp_path: Path) -> None:
    python().write(tmp_path, "a\nb")
    python().write(tmp_path, os.fsdecode(b"\xff"))
    texts = [str(finding) for finding in lint([tmp_path])]
    assert "name: 'a\\nb' has characters that need quoting" in texts[0]
    assert "its name is not UTF-8" in texts[1]
    for text in texts:
        assert text.isprintable()
    assert len(json.loads(_run(str(tmp_path), "--format", "json").stdout)) == len(texts)


def test_a_folder_that_is_called_as_the_model_holds_it(tmp_path: Path) -> None:
    """LoadModel of the onnxruntime backend looks for model.onnx in it."""
    nested = World(files={"1/model.onnx/model.onnx": MLP})
    assert nested.lint(tmp_path / "good") == []
    wrong = World(GOOD.replace("[4]", "[5]"), nested.files)
    assert [f.rule for f in wrong.lint(tmp_path / "wrong")] == ["onnx-shape"]
    found = World(files={"1/model.onnx": None}).lint(tmp_path / "empty")
    assert [(f.rule, f.file[-22:]) for f in found] == [("file-missing", "/model.onnx/model.onnx")]


def test_a_broken_model_does_not_hide_the_next(tmp_path: Path) -> None:
    World(b"\xff").write(tmp_path, "a")
    World(None).write(tmp_path, "b")
    (tmp_path / "c").symlink_to("c")
    World(GOOD.replace("FP32", "FP16")).write(tmp_path, "d")
    (tmp_path / "a-file").write_text("no model")
    assert [f.model for f in lint([tmp_path])] == ["a", "b", "c", "d", "d"]


def test_folders_without_permission(tmp_path: Path) -> None:
    World().write(tmp_path)
    (tmp_path / "m" / "1").chmod(0)
    # Root reads everything, but for one without capabilities.
    powerless = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    words = [sys.executable, "-m", "repo_builder", "lint", str(tmp_path), "--format", "json"]
    done = subprocess.run([*powerless, *words], capture_output=True, check=False)
    (tmp_path / "m" / "1").chmod(0o755)
    assert done.returncode == LintFailed.exit_code, done.stderr
    assert "layout-unreadable" in {found["rule"] for found in json.loads(done.stdout)}


def test_versions(tmp_path: Path) -> None:
    folders = {
        f"{name}/model.py": b"class TritonPythonModel: ..." for name in ("0", "01", "v1", WIDE_ONE)
    }
    found = python().with_files(**folders).lint(tmp_path)
    assert {(f.rule, Path(f.file).name) for f in found} == {
        ("version-ignored", "01"),
        ("version-ignored", "v1"),
        ("version-ignored", WIDE_ONE),
    }


def test_configs_that_a_name_chooses_are_linted_too(tmp_path: Path) -> None:
    configs = {
        "configs/edge.pbtxt": GOOD.replace("[4]", "[5]").encode(),
        "configs/broken.pbtxt": b"max_batch_size: 1\ninput {",
        "configs/good.pbtxt": GOOD.encode(),
        "configs/notes.txt": b"no config",
    }
    found = World(files={**World().files, **configs, "v1/model.onnx": b""}).lint(tmp_path)
    folder = tmp_path / "m"
    assert [(Path(f.file).relative_to(folder).as_posix(), f.line, f.rule) for f in found] == [
        ("v1", 0, "version-ignored"),
        ("configs/broken.pbtxt", 2, "config-unreadable"),
        ("configs/edge.pbtxt", 4, "onnx-shape"),
    ]


def test_a_config_by_name_has_its_own_repairs_and_disables(tmp_path: Path) -> None:
    reason = "# lint: disable=threads-unset measured\n"
    edge = GOOD.replace("FP32", "FP16", 1) + reason
    root = World(files={**World().files, "configs/edge.pbtxt": edge.encode()}).write(tmp_path)
    assert [f.rule for f in fix.apply(lint([root]))] == ["onnx-type"]
    assert lint([root]) == []
    assert (root / "m" / "configs" / "edge.pbtxt").read_text() == GOOD + reason
    assert (root / "m" / "config.pbtxt").read_text() == GOOD


def test_an_ensemble_with_steps_of_other_configs(tmp_path: Path) -> None:
    """Triton takes config.pbtxt of a model that has none of the name."""
    world = ensemble()
    (step,) = world.beside
    world.write(tmp_path)
    assert [f for f in lint([tmp_path]) if f.severity == "error"] == []
    text = (tmp_path / step / "config.pbtxt").read_text()
    (tmp_path / step / "configs").mkdir()
    edge = tmp_path / step / "configs" / "edge.pbtxt"
    edge.write_text(text.replace("max_batch_size: 8", "max_batch_size: 1"))
    found = [f for f in lint([tmp_path]) if f.severity == "error"]
    assert {(f.model, f.rule) for f in found} == {("m", "ensemble-batch")}


def test_a_plan_that_its_device_builds_is_not_missed(tmp_path: Path) -> None:
    edge = GOOD.replace("onnxruntime", "tensorrt").replace("KIND_CPU", "KIND_GPU").encode()
    files = {**World().files, "configs/tensorrt.pbtxt": edge}
    assert "file-missing" in {f.rule for f in World(files=files).lint(tmp_path / "1")}
    files["1/tensorrt.json"] = b"{}"
    assert "file-missing" not in {f.rule for f in World(files=files).lint(tmp_path / "2")}


def test_what_is_a_repository(tmp_path: Path) -> None:
    World(None).write(tmp_path / "build" / "cpu" / "models")
    for path in (tmp_path / "build" / "cpu", tmp_path / "build" / "cpu" / "models"):
        assert [f.model for f in lint([path])] == ["m"]
    with pytest.raises(UsageError, match="no such folder"):
        lint([tmp_path / "nowhere"])


def test_a_rule_is_disabled_with_a_reason(tmp_path: Path) -> None:
    text = GOOD.replace("[4]", "[5]")
    assert {f.rule for f in World(text).lint(tmp_path / "1")} == {"onnx-shape"}
    reason = text + "# lint: disable=onnx-shape padded by a proxy\n"
    assert World(reason).lint(tmp_path / "2") == []
    silent = text + "# lint: disable=onnx-shape\n"
    found = {f.rule: f.line for f in World(silent).lint(tmp_path / "3")}
    assert found == {"onnx-shape": 4, "bad-disable": silent.count("\n")}


def test_mechanical_repairs(tmp_path: Path) -> None:
    text = """# kept
name: "other"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP16 dims: [4] }  # kept too
output { name: "y" data_type: TYPE_FP32 dims: [2] }
parameters { key: "intra_op_num_threads" value { string_value: "1" } }
instance_group { count: 1 }
model_warmup {
  name: "w"
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [4] zero_data: true } }
}
"""
    root = World(text).write(tmp_path)
    done = fix.apply(lint([root]))
    assert {f.rule for f in done} == {
        "name-differs",
        "backend-left-out",
        "onnx-type",
        "onnx-parameter-unknown",
        "warmup-skipped",
    }
    assert lint([root]) == []
    mended = (root / "m" / "config.pbtxt").read_text()
    assert mended.count("kept") == 2
    assert "\n  batch_size: 1\n" in mended


def _run(*arguments: str):
    return CliRunner().invoke(command, list(arguments))


def test_command_line(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    World().write(good)
    World(BATCHED.replace("[4]", "[5]")).write(bad)
    assert _run(str(good)).exit_code == 0
    result = _run(str(bad))
    assert isinstance(result.exception, LintFailed)
    assert "config.pbtxt:4: error [onnx-shape] input[0].dims" in result.stdout
    found = json.loads(_run(str(bad), "--format", "json").stdout)
    assert {f["rule"] for f in found} == {"onnx-shape", "threads-unset"}


def test_sarif(tmp_path: Path) -> None:
    findings = World(BATCHED.replace("[4]", "[5]")).lint(tmp_path)
    log = output.as_sarif(findings)
    (run,) = log["runs"]
    rules = {rule["id"]: rule for rule in run["tool"]["driver"]["rules"]}
    for result in run["results"]:
        assert rules[result["ruleId"]]["defaultConfiguration"]["level"] == result["level"]
    jsonschema.validate(
        run["results"],
        {"type": "array", "items": {"required": ["ruleId", "level", "message", "locations"]}},
    )
    assert json.loads(json.dumps(log)) == log


def test_a_thousand_models(tmp_path: Path) -> None:
    for number in range(1000):
        World().write(tmp_path, f"m{number}")
    start = time.process_time()
    lint([tmp_path])
    assert time.process_time() - start < 10


def test_inputs_of_bodies_are_no_inputs_of_an_openvino_model() -> None:
    from repo_builder.repository.lint import openvino

    def layer(kind: str, name: str) -> str:
        ends = f'<output><port id="0" names="{name}"/></output>' if kind == "Parameter" else ""
        given = f' output_names="{name}"' if kind == "Result" else ""
        return f'<layer id="0" name="{name}" type="{kind}"{given}>{ends}</layer>'

    inner = f"<body><layers>{layer('Parameter', 'deep')}</layers></body>"
    then = f"<then_body><layers>{layer('Parameter', 'in_if')}{inner}</layers></then_body>"
    other = f"<else_body><layers>{layer('Result', 'of_else')}</layers></else_body>"
    whole = (
        f"<layers>{layer('Parameter', 'x')}"
        f'<layer id="1" name="if" type="If">{then}{other}</layer>{layer("Result", "y")}</layers>'
    ).encode()
    assert list(openvino._names(whole, "input")) == [{"x"}]
    assert list(openvino._names(whole, "output")) == [{"y"}]
