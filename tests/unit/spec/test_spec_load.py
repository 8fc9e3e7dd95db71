"""Spec files: every problem of every file at once, with file, line, field and fix; and what comes
out of those that are right."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import SpecError, UsageError
from repo_builder.spec.load import load, select
from repo_builder.spec.types import (
    Calibration,
    Evaluation,
    Fallback,
    OnnxSource,
    Quantization,
    Spec,
    TensorRt,
    TorchSource,
    Version,
)

CATALOG = targets.load()
MINIMAL = "name: digits\nversion: 1.2.3\nsource: {onnx: m.onnx}\ntargets: [cpu]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that specs here name."""
    for name in ("m.onnx", "c.npz", "e.npz", "labels.txt"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def one(folder: Path, text: str, name: str = "a.yaml") -> list[Spec]:
    (folder / name).write_text(text)
    return load([folder], CATALOG)


def said(folder: Path, text: str = "", **files: str) -> list[str]:
    """The problems of `a.yaml` with `text` (and other files), without the folder's name."""
    if text:
        (folder / "a.yaml").write_text(text)
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(content)
    with pytest.raises(SpecError) as caught:
        load([folder], CATALOG)
    assert caught.value.exit_code == 3
    assert f"{len(caught.value.problems)} problem" in caught.value.message
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_minimal_spec_has_every_default(folder: Path) -> None:
    (spec,) = one(folder, MINIMAL)
    assert spec.id == "digits@cpu"
    assert spec.version == Version(1, 2, 3)
    assert spec.source == OnnxSource(folder / "m.onnx")
    assert spec.file == folder / "a.yaml"
    assert spec.calibration is None
    assert spec.evaluation is None
    assert spec.optimize.precision == "fp32"
    assert spec.optimize.quantization == Quantization()
    assert spec.gates.max_size_mb is None
    assert spec.serving.objective == "latency"


def test_a_full_spec_is_resolved(folder: Path) -> None:
    (spec,) = one(
        folder,
        MINIMAL
        + """
data:
  calibration: {path: c.npz, samples: 12}
  evaluation: {path: e.npz, metric: accuracy, labels: {label: digit}, samples: 9}
optimize:
  precision: int8
  quantization: {method: percentile, percentile: 99, exclude: ["head/*"]}
gates: {max_accuracy_drop: 0.1, max_size_mb: 2, max_latency_ms: 3}
serving: {objective: throughput, max_batch_size: 8, labels: {logits: labels.txt}}
preprocess: {input: image, size: [8, 8], color: gray}
""",
    )
    assert spec.calibration == Calibration(folder / "c.npz", 12)
    assert spec.evaluation == Evaluation(
        folder / "e.npz", "accuracy", {"label": "digit"}, {"scores": "scores"}, 9
    )
    assert spec.optimize.quantization.exclude == ("head/*",)
    assert spec.optimize.quantization.percentile == 99
    assert spec.gates.max_size_mb == 2
    assert spec.serving.labels == {"logits": folder / "labels.txt"}
    assert spec.preprocess is not None
    assert spec.preprocess.parameters["layout"] == "NCHW"


def test_a_spec_becomes_one_for_each_target_by_identifier(folder: Path) -> None:
    (folder / "b.yml").write_text(MINIMAL.replace("digits", "alpha"))
    specs = one(folder, MINIMAL.replace("[cpu]", "[cpu-openvino, cpu]"))
    assert [spec.id for spec in specs] == ["alpha@cpu", "digits@cpu", "digits@cpu-openvino"]


def test_overrides_change_one_target_only(folder: Path) -> None:
    specs = one(
        folder,
        MINIMAL.replace("[cpu]", "[cpu, cpu-openvino]")
        + "optimize: {simplify: false}\n"
        + "overrides: {cpu-openvino: {optimize: {precision: fp16}, gates: {max_size_mb: 1}}}\n",
    )
    cpu, openvino = specs
    assert (cpu.optimize.precision, openvino.optimize.precision) == ("fp32", "fp16")
    assert (cpu.gates.max_size_mb, openvino.gates.max_size_mb) == (None, 1)
    assert openvino.optimize.simplify is False


def test_an_override_need_not_repeat_what_it_leaves_alone(folder: Path) -> None:
    cpu, openvino = one(
        folder,
        MINIMAL.replace("[cpu]", "[cpu, cpu-openvino]")
        + "data: {calibration: {path: c.npz, samples: 9}, evaluation: {path: e.npz, metric: mse}}\n"
        + "overrides: {cpu-openvino: {data: {calibration: {samples: 3}, "
        + "evaluation: {metric: mae}}}}\n",
    )
    assert cpu.calibration == Calibration(folder / "c.npz", 9)
    assert openvino.calibration == Calibration(folder / "c.npz", 3)
    assert openvino.evaluation is not None
    assert (openvino.evaluation.path, openvino.evaluation.metric) == (folder / "e.npz", "mae")
    lines = said(folder, MINIMAL + "overrides: {cpu: {data: {calibration: {samples: 3}}}}")
    assert lines == ["a.yaml:5: data.calibration.path: is missing; write `path: ...`"]


def test_defaults_are_below_every_spec_of_the_folder(folder: Path) -> None:
    (folder / "defaults.yaml").write_text(
        "targets: [cpu]\ngates: {max_size_mb: 5, max_latency_ms: 7}\n"
        "overrides: {cpu-openvino: {optimize: {precision: fp16}}}\n"
    )
    (folder / "b.yaml").write_text(
        "name: b\nversion: 1.0.0\nsource: {onnx: m.onnx}\ntargets: [cpu, cpu-openvino]\n"
    )
    a, b, b_openvino = one(
        folder,
        "name: a\nversion: 1.0.0\nsource: {onnx: m.onnx}\n"
        "gates: {max_size_mb: 1, max_latency_ms: null}\n",
    )
    assert (a.id, a.gates.max_size_mb, a.gates.max_latency_ms) == ("a@cpu", 1, None)
    assert (b.gates.max_size_mb, b.gates.max_latency_ms) == (5, 7)
    assert b_openvino.optimize.precision == "fp16"


def test_what_images_are_made_of_is_no_spec(folder: Path) -> None:
    (folder / "pins.yaml").write_text("families: {cpu: {base: mine}}\n")
    assert [spec.id for spec in one(folder, MINIMAL)] == ["digits@cpu"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: a\n", "a.yaml:1: targets: is missing"),
        (MINIMAL + "gatse: {}", "a.yaml:5: gatse: unknown key; did you mean 'gates'?"),
        (
            MINIMAL + "data:\n  evaluation: {path: e.npz, metrik: mse, metric: mse}",
            "a.yaml:6: data.evaluation.metrik: unknown key; did you mean 'metric'?",
        ),
        (
            MINIMAL + "overrides: {cpu: {optimise: {}}}",
            "a.yaml:5: overrides.cpu.optimise: unknown key; did you mean 'optimize'?",
        ),
        (MINIMAL + "serving: {max_batch_siz: 1}", "did you mean 'max_batch_size'?"),
        (MINIMAL + "gates: {max_size_mb: big}", "gates.max_size_mb: must be a number, not 'big'"),
        (MINIMAL + "gates: {max_size_mb: .inf}", "must be a finite number, not inf"),
        (MINIMAL + "gates: {max_accuracy_drop: .nan}", "must be a finite number, not nan"),
        (MINIMAL + "gates: {confidence: 0.95}", "gates.confidence: has no limit that could be"),
        (MINIMAL + "data: {calibration: {path: c.npz, samples: 0}}", "must be at least 1, not 0"),
        (MINIMAL + "optimize: {precision: int9}", "unknown value 'int9'; did you mean 'int8'?"),
        (MINIMAL.replace("digits", "a b"), "'a b' is no model name; use letters, digits"),
        (MINIMAL.replace("digits", "../up"), "'../up' is no model name"),
        (MINIMAL.replace("digits", "'" + "x" * 129 + "'"), "at most 128"),
        (MINIMAL.replace("1.2.3", "1.2"), "a.yaml:2: version: 1.2 is no semantic version; write"),
        (MINIMAL.replace("1.2.3", "v1.2.3"), "'v1.2.3' is no semantic version of parts 0..999"),
        (MINIMAL.replace("1.2.3", "1.2.1000"), "'1.2.1000' is no semantic version of parts 0..999"),
        (MINIMAL.replace("1.2.3", "01.2.3"), "'01.2.3' is no semantic version"),
        (MINIMAL.replace("1.2.3", "1.2.3-rc1"), "'1.2.3-rc1' is no semantic version"),
        (MINIMAL.replace("1.2.3", "1.2.٣"), "'1.2.٣' is no semantic version"),
        (MINIMAL.replace("1.2.3", "0.0.0"), "would be Triton's version 0, which it ignores"),
        (MINIMAL.replace("[cpu]", "[]"), "a.yaml:4: targets: must have at least 1 items"),
        (MINIMAL.replace("[cpu]", "[cpv]"), "a.yaml:4: targets[0]: unknown target 'cpv'; did you"),
        (MINIMAL.replace("[cpu]", "[cpu, cpu]"), "a.yaml:4: targets[1]: 'cpu' is listed twice"),
        (MINIMAL.replace("[cpu]", "cpu"), "a.yaml:4: targets: must be a list, not 'cpu'"),
        (
            MINIMAL + "overrides: {cpu-openvino: {}}",
            "a.yaml:5: overrides.cpu-openvino: 'cpu-openvino' is not among this spec's targets",
        ),
        (MINIMAL + "overrides: {cpv: {}}", "a.yaml:5: overrides.cpv: unknown target 'cpv'"),
        (MINIMAL + "overrides: {cpu: }", "overrides.cpu: must be a mapping of keys to values"),
        (MINIMAL + "overrides: [cpu]", "overrides: must be a mapping of keys to values"),
        (
            MINIMAL + "optimize: {precision: int8}",
            "a.yaml:5: optimize.precision: int8 needs calibration data; add `data: {calibration",
        ),
        (
            MINIMAL + "\n\noverrides:\n  cpu:\n    optimize: {precision: int8}",
            "a.yaml:9: optimize.precision: int8 needs calibration data",
        ),
        (
            MINIMAL + "optimize: {precision: fp16}",
            "a.yaml:5: optimize.precision: cpu has no fp16; it has: fp32, int8",
        ),
        (
            MINIMAL + "gates: {max_accuracy_drop: 0.1}",
            "a.yaml:5: gates.max_accuracy_drop: needs evaluation data; add `data: {evaluation",
        ),
        (
            MINIMAL + "data: {evaluation: {path: e.npz, metric: mse, labels: {label: x}}}",
            "data.evaluation.labels.label: the metric mse has no label 'label'; one of: target",
        ),
        (
            MINIMAL + "data: {evaluation: {path: e.npz, metric: mse, outputs: {valu: x}}}",
            "data.evaluation.outputs.valu: the metric mse has no output 'valu'; did you mean",
        ),
        (MINIMAL.replace("m.onnx", "n.onnx"), "a.yaml:3: source.onnx: no such file: n.onnx; paths"),
        (MINIMAL.replace("m.onnx", "."), "a.yaml:3: source.onnx: is a folder: ."),
        (MINIMAL.replace("m.onnx", '"m\\0.onnx"'), r"source.onnx: no such file: m\x00.onnx"),
        (
            MINIMAL + "data:\n  calibration:\n    path: z.npz",
            "a.yaml:7: data.calibration.path: no such file: z.npz",
        ),
        (
            MINIMAL + "overrides: {cpu: {serving: {labels: {y: z.txt}}}}",
            "a.yaml:5: overrides.cpu.serving.labels.y: no such file: z.txt",
        ),
        (
            MINIMAL + "serving: {labels: {x: labels.txt, y: other/labels.txt}}",
            "serving.labels.y: another file called labels.txt lies beside it in the repository",
        ),
        (
            MINIMAL + "serving: {labels: {x: other/config.pbtxt}}",
            "serving.labels.x: another file called config.pbtxt lies beside it",
        ),
        ("- a\n- b\n", "a.yaml:1: must be a mapping of keys to values"),
        (MINIMAL + "data: !x {}", "a.yaml:5: data: the YAML tag !x is not allowed"),
        (MINIMAL + "name: again", "a.yaml:5: name: 'name' is written twice (first on line 1)"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, text: str, line: str) -> None:
    (folder / "other").mkdir()
    for name in ("labels.txt", "config.pbtxt"):
        (folder / "other" / name).write_bytes(b"x")
    lines = said(folder, text)
    assert [found for found in lines if line in found], lines
    assert not [found for found in lines if "\n" in found or len(found) > 400]


def test_all_problems_of_all_files_come_at_once(folder: Path) -> None:
    lines = said(
        folder,
        MINIMAL.replace("1.2.3", "1").replace("[cpu]", "[cpv]").replace("m.onnx", "n.onnx")
        + "gatse: {}\nname: b\n",
        b=MINIMAL.replace("digits", "b") + "optimize: {precision: fp61}\ndata: !t {}\n",
        c="[1\n",
        d=MINIMAL,
    )
    places = [(line.split(":")[0], int(line.split(":")[1])) for line in lines]
    assert places == [
        ("a.yaml", 2),
        ("a.yaml", 3),
        ("a.yaml", 4),
        ("a.yaml", 5),
        ("a.yaml", 6),
        ("b.yaml", 5),
        ("b.yaml", 6),
        ("c.yaml", 2),
        ("d.yaml", 1),
    ]


def test_a_problem_that_all_targets_share_is_told_once(folder: Path) -> None:
    text = MINIMAL.replace("[cpu]", "[cpu, cpu-openvino]")
    assert len(said(folder, text + "optimize: {precision: int8}")) == 1


def test_two_specs_with_one_name_point_at_each_other(folder: Path) -> None:
    (line,) = said(folder, MINIMAL, b="\n" + MINIMAL)
    assert line.startswith("b.yaml:2: name: 'digits' is also the name of the model at")
    assert line.endswith("a.yaml:1; rename one of them")


def test_one_file_by_two_ways_is_one_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.yaml").write_text(MINIMAL)
    (folder / "link").symlink_to("a.yaml")
    monkeypatch.chdir(folder)
    roots = [Path("a.yaml"), folder, folder / "a.yaml", Path("link")]
    assert len(load(roots, CATALOG)) == 1


@pytest.mark.parametrize(
    ("defaults", "line"),
    [
        ("gatse: {}", "defaults.yaml:1: gatse: unknown key; did you mean 'gates'?"),
        ("gates: {max_size_mb: x}", "defaults.yaml:1: gates.max_size_mb: must be a number"),
        ("# c\nname: x", "defaults.yaml:2: name: cannot be shared by all models of a folder; move"),
        ("[a", "defaults.yaml:1: not YAML"),
        ("[a]", "defaults.yaml:1: must be a mapping of keys to values"),
        ("overrides: {cpv: {}}", "defaults.yaml:1: overrides.cpv: unknown target 'cpv'"),
        ("data: {calibration: {path: z.npz}}", "defaults.yaml:1: data.calibration.path: no such"),
    ],
)
def test_mistakes_in_defaults_are_told_once_and_there(
    folder: Path, defaults: str, line: str
) -> None:
    lines = said(folder, MINIMAL, b=MINIMAL.replace("digits", "b"), defaults=defaults)
    assert len(lines) == 1
    assert line in lines[0]


def test_folders_and_files_that_are_not_there(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "gone.yaml").symlink_to("nowhere.yaml")
    roots = [folder / "empty", folder / "absent", folder / "loop.yaml", folder / "gone.yaml"]
    with pytest.raises(SpecError) as caught:
        load(roots, CATALOG)
    lines = [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]
    assert lines[0] == "absent: no such file or folder; check the path"
    assert lines[1].startswith("empty: no spec files (*.yaml) in this folder; write one with")
    assert lines[2] == "gone.yaml: no such file or folder; check the path"
    assert lines[3].startswith("loop.yaml: ")
    assert len(lines) == 4


def test_the_example_specs_are_right() -> None:
    specs = load([Path(__file__).parents[3] / "model_specs"], CATALOG)
    assert {"digits@cpu", "digits-large@cpu", "shapes@cpu", "vibration@cpu"} <= {
        spec.id for spec in specs
    }


class TestSelect:
    @pytest.fixture
    def specs(self, folder: Path) -> list[Spec]:
        both = MINIMAL.replace("[cpu]", "[cpu, cpu-openvino]")
        (folder / "b.yaml").write_text(both.replace("digits", "digits-large"))
        return one(folder, both)

    @pytest.mark.parametrize(
        ("patterns", "only_targets", "chosen"),
        [
            ((), (), 4),
            (("digits",), (), 2),
            (("digits*",), (), 4),
            (("*@cpu",), (), 2),
            (("digits@cpu", "*@cpu"), (), 2),
            (("digits@cpu", "digits-large@cpu-openvino"), (), 2),
            ((), ("cpu",), 2),
            (("digits",), ("cpu",), 1),
        ],
    )
    def test_globs(
        self,
        specs: list[Spec],
        patterns: tuple[str, ...],
        only_targets: tuple[str, ...],
        chosen: int,
    ) -> None:
        assert len(select(specs, patterns, only_targets)) == chosen

    def test_what_matches_nothing_is_a_mistake(self, specs: list[Spec]) -> None:
        with pytest.raises(UsageError, match="did you mean 'digits@cpu'") as caught:
            select(specs, ["digit@cpu"])
        assert caught.value.exit_code == 2
        with pytest.raises(UsageError, match="no spec is for jetson-orin-nx"):
            select(specs, [], ["cpu", "jetson-orin-nx"])


CLASSIFIER = MINIMAL + (
    "data: {evaluation: {path: e.npz, metric: accuracy, outputs: {scores: logits}, samples: 9}}\n"
)


def test_a_fallback_takes_what_it_needs_from_the_evaluation(folder: Path) -> None:
    (spec,) = one(folder, CLASSIFIER + "fallback: {max_error: 0.02, cloud: big}")
    assert spec.fallback == Fallback(
        policy="max_probability",
        output="logits",
        activation="logits",
        data=folder / "e.npz",
        label="label",
        samples=9,
        max_error=0.02,
        cloud="big",
    )


def test_a_fallback_may_have_data_of_its_own_and_differ_by_target(folder: Path) -> None:
    (folder / "h.npz").write_bytes(b"x")
    text = CLASSIFIER.replace("[cpu]", "[cpu, cpu-openvino, jetson-orin-nx]").replace(
        "data: {", "data: {confidence: {path: h.npz, label: y}, "
    )
    cpu, openvino, jetson = one(
        folder,
        text
        + "fallback: {max_error: 0.02, policy: margin, output: scores}\n"
        + "overrides:\n  cpu-openvino: {fallback: {max_error: null, threshold: 0.85}}\n"
        + "  jetson-orin-nx: {fallback: null}\n",
    )
    assert cpu.fallback is not None
    assert openvino.fallback is not None
    assert (cpu.fallback.data, cpu.fallback.label) == (folder / "h.npz", "y")
    assert (cpu.fallback.output, cpu.fallback.samples) == ("scores", None)
    assert (cpu.fallback.max_error, cpu.fallback.threshold) == (0.02, None)
    assert (openvino.fallback.max_error, openvino.fallback.threshold) == (None, 0.85)
    assert openvino.fallback.policy == "margin"
    assert jetson.fallback is None


def test_a_cloud_model_is_found_among_the_specs_read(folder: Path) -> None:
    (folder / "big.onnx").write_bytes(b"x")
    (folder / "b.yaml").write_text(MINIMAL.replace("digits", "big").replace("m.onnx", "big.onnx"))
    fallback = "fallback: {max_error: 0.02, cloud: big}"
    _, small = one(folder, CLASSIFIER + fallback)
    assert small.fallback is not None
    assert small.fallback.cloud_source == OnnxSource(folder / "big.onnx")
    _, small = one(folder, CLASSIFIER + fallback.replace("big", "elsewhere"))
    assert small.fallback is not None
    assert small.fallback.cloud_source is None


TORCH = """
name: net
version: 1.0.0
targets: [cpu]
source:
  torch: {factory: code/nets.py:make, weights: w.safetensors, inputs: {x: [1, 40]}, outputs: [y]}
"""


@pytest.fixture
def net_folder(folder: Path) -> Path:
    (folder / "code").mkdir()
    (folder / "code" / "nets.py").write_text("")
    (folder / "w.safetensors").write_bytes(b"")
    return folder


def test_a_net_has_every_default_filled_in(net_folder: Path) -> None:
    (spec,) = one(net_folder, TORCH)
    source = spec.source
    assert source == TorchSource(
        file=net_folder / "code" / "nets.py",
        function="make",
        kwargs={},
        weights=net_folder / "w.safetensors",
        inputs=(Tensor("x", "FP32", (1, 40)),),
        outputs=("y",),
        batch=True,
    )
    typed = TORCH.replace("x: [1, 40]", "x: {shape: [2], dtype: int64}, b: {shape: [1, 2]}")
    more = typed.replace("w.safetensors,", "null, kwargs: {width: 8}, batch: false,")
    (spec,) = one(net_folder, more)
    assert isinstance(spec.source, TorchSource)
    assert spec.source.inputs == (Tensor("x", "INT64", (2,)), Tensor("b", "FP32", (1, 2)))
    assert (spec.source.weights, spec.source.batch) == (None, False)
    assert spec.source.kwargs == {"width": 8}
    assert hash(spec.source) != hash(source)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("nets.py:make", "nets.py", "factory: 'code/nets.py' names no file and function; write `"),
        ("nets.py:make", "nets:make", "names no file and function; write `nets.py:make`"),
        ("nets.py:make", "nets.py:a b", "names no file and function; write `code/nets.py:make`"),
        ("nets.py:make", "net.py:make", "source.torch.factory: no such file: code/net.py; paths"),
        ("w.safetensors", "v.safetensors", "source.torch.weights: no such file: v.safetensors"),
        ("[1, 40]", "[]", "source.torch.inputs.x: has no dimension 0 to count rows; write `batch"),
        ("[1, 40]", "[1, 0]", "source.torch.inputs.x[1]: must be at least 1, not 0"),
        ("[1, 40]", "{shape: [1], dtype: float}", "inputs.x.dtype: unknown value 'float'; did you"),
        ("[1, 40]", "{shap: [1]}", "source.torch.inputs.x.shap: unknown key; did you mean 'shape'"),
        ("{x: [1, 40]}", "{}", "source.torch.inputs: "),
        ("[y]", "[]", "source.torch.outputs: must have at least 1 items"),
        ("[y]", "[y, y]", "source.torch.outputs[1]: 'y' is named twice"),
        ("[y]", "[x]", "source.torch.outputs[0]: 'x' is an input too"),
        ("torch: {", "onnx: m.onnx\n  torch: {", "source: names two models; write `onnx: FILE`"),
        ("[y]}", "[y], kwargs: {a: .nan}}", "kwargs.a"),
    ],
)
def test_a_net_that_cannot_be_named_so_is_told(
    net_folder: Path, old: str, new: str, said: str
) -> None:
    with pytest.raises(SpecError) as caught:
        one(net_folder, TORCH.replace(old, new))
    assert said in str(caught.value)


@pytest.mark.parametrize("suffix", ["pt", "pth", "pkl", "pt2", "ckpt", "BIN"])
def test_pickles_are_refused_with_the_lines_that_write_safetensors(
    net_folder: Path, suffix: str
) -> None:
    (net_folder / f"w.{suffix}").write_bytes(b"")
    for text in (
        TORCH.replace("w.safetensors", f"w.{suffix}"),
        MINIMAL.replace("m.onnx", f"w.{suffix}"),
    ):
        with pytest.raises(SpecError) as caught:
            one(net_folder, text)
        (problem,) = caught.value.problems
        assert f"w.{suffix} is " in problem.what
        assert "pickle, or may hold one, and reading one runs it" in problem.what
        code = shlex.split(problem.fix.partition("python -c ")[2])[0]
        assert f'torch.load("w.{suffix}", map_location="cpu", weights_only=True)' in code
        assert 'save_file(state.get("state_dict", state), "w.safetensors")' in code
        ast.parse(code)


@pytest.mark.parametrize(
    ("more", "output", "layout"),
    [
        ("", "y", "ultralytics"),
        (", output: y", "y", "ultralytics"),
        (", output: z", "z", "scores"),
        (", output: z, layout: ultralytics", "z", "ultralytics"),
        (", layout: scores", "y", "scores"),
    ],
)
def test_a_detectors_fallback_reads_the_layout_of_its_metric(
    folder: Path, more: str, output: str, layout: str
) -> None:
    evaluation = "{path: e.npz, metric: map50_ultralytics, outputs: {detections: y}}"
    text = MINIMAL + f"data: {{evaluation: {evaluation}}}\n"
    (spec,) = one(folder, text + f"fallback: {{policy: max_score, threshold: 0.5{more}}}")
    assert spec.fallback is not None
    assert (spec.fallback.output, spec.fallback.layout) == (output, layout)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (MINIMAL + "fallback: {max_error: 0.1}", "fallback: needs labelled data that the model"),
        (CLASSIFIER + "fallback: {}", "neither is given of max_error and threshold"),
        (
            CLASSIFIER + "fallback: {max_error: 0.1, threshold: 0.5}",
            "fallback: both are given of max_error and threshold; write one",
        ),
        (CLASSIFIER + "fallback: {max_error: 1}", "fallback.max_error: must be less than 1"),
        (
            CLASSIFIER + "fallback: {max_error: 0.1, cloud: digits}",
            "fallback.cloud: is this model itself",
        ),
        (
            CLASSIFIER + "fallback: {max_error: 0.1, policy: margins}",
            "unknown value 'margins'; did you mean 'margin'?",
        ),
        (
            CLASSIFIER + "fallback: {max_error: 0.1, policy: max_score}",
            "fallback.policy: max_score has no right and wrong answers",
        ),
        (
            MINIMAL
            + "data: {evaluation: {path: e.npz, metric: map50}}\nfallback: {max_error: 0.1}",
            "needs the class of every row, which data for map50 does not have; use max_score",
        ),
        (
            CLASSIFIER + "fallback: {max_error: 0.1, layout: ultralytics}",
            "fallback.layout: ultralytics, which only max_score reads; write `policy: max_score`",
        ),
        (
            MINIMAL + "data: {confidence: {path: e.npz}}\nfallback: {max_error: 0.1}",
            "fallback.output: is missing; write the model's output of scores",
        ),
        (
            CLASSIFIER.replace("data: {", "data: {confidence: {path: none.npz}, ")
            + "fallback: {max_error: 0.1}",
            "data.confidence.path: no such file: none.npz",
        ),
        (
            CLASSIFIER.replace(
                "data: {", "data: {confidence: {path: c.npz}, calibration: {path: c.npz}, "
            )
            + "fallback: {max_error: 0.1}",
            "data.confidence.path: is the calibration data too",
        ),
    ],
)
def test_a_fallback_that_cannot_be_is_told(folder: Path, text: str, problem: str) -> None:
    (line,) = said(folder, text)
    assert problem in line


def tensorrt(targets: str, options: str, rest: str = "precision: fp16") -> str:
    head = MINIMAL.replace("[cpu]", f"[{targets}]")
    return f"{head}optimize:\n  {rest}\n  tensorrt: {{{options}}}\n"


def test_options_of_tensorrt_are_resolved(folder: Path) -> None:
    options = "dla_core: 1, workspace_mb: 64, version_compatible: true"
    text = tensorrt("jetson-orin-nx", options) + "serving: {max_batch_size: 1}\n"
    (spec,) = one(folder, text)
    assert spec.optimize.tensorrt == TensorRt(64, 1, True, "none")


def test_sizes_are_by_name_or_by_position(folder: Path) -> None:
    (spec,) = one(folder, MINIMAL + "sizes: {h: 320, x: [null, 3, 320, 320]}\n")
    assert spec.sizes == {"h": 320, "x": (None, 3, 320, 320)}
    assert said(folder, MINIMAL + "sizes: {h: 0}\n")


def test_what_a_device_s_tensorrt_lacks_is_told_where_it_was_asked(folder: Path) -> None:
    text = tensorrt("nvidia-gpu, intel-npu", "dla_core: 0") + "serving: {max_batch_size: 1}\n"
    assert said(folder, text) == [
        "a.yaml:7: optimize.tensorrt.dla_core: nvidia-gpu has no DLA; leave it out"
    ]
    text = tensorrt("jetson-orin-nx", "dla_core: 2, hardware_compatibility: ampere_plus")
    assert said(folder, text.replace("fp16", "fp32")) == [
        "a.yaml:7: optimize.tensorrt.dla_core: DLA takes no explicit fp32; "
        "write `precision: fp16`, or leave it out",
        "a.yaml:7: optimize.tensorrt.dla_core: DLA takes one batch size; "
        "write `serving: {max_batch_size: 1}`",
        "a.yaml:7: optimize.tensorrt.dla_core: jetson-orin-nx has DLA cores 0 to 1; leave it out",
        "a.yaml:7: optimize.tensorrt.hardware_compatibility: plans of jetson-orin-nx fit its own "
        "GPU only; leave it out",
    ]
