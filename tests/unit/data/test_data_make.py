"""`repo-builder data`: readers, splits, files, and the check against the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from repo_builder.base.errors import DataError, OutputError, RepoBuilderError, UsageError
from repo_builder.cli.data import command
from repo_builder.data import split
from repo_builder.data.rows import Rows, digests

CPU = "version: 1.0.0\ntargets: [cpu]\n"


def run(*arguments: object) -> Result:
    ended = CliRunner().invoke(command, [str(a) for a in arguments])
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended


def spec(folder: Path, inputs: str, body: str, more: str = "") -> Path:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[N, k] y) {{ {body} }}'
    onnx.save(onnx.parser.parse_model(text), folder / "net.onnx")
    file = folder / "net.yaml"
    file.write_text(f"name: net\n{CPU}source:\n  onnx: net.onnx\n{more}")
    return file


def rows(values: list[int], labels: list[int]) -> Rows:
    array = np.array(values, np.float32)[:, None]
    return Rows({"x": array}, {"label": np.array(labels)}, digests([array]))


def loaded(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def test_splits_are_disjoint_stratified_and_keep_equal_rows_together() -> None:
    values = [*range(300), 7, 7, 299]
    data = rows(values, [0] * 100 + [1] * 200 + [0, 0, 1])
    parts = split.split(data, split.parse("calibration=60,evaluation=rest,confidence=30"), 0)
    assert list(parts) == ["calibration", "evaluation", "confidence"]
    assert sorted(row for part in parts.values() for row in part) == list(range(303))
    held = [{values[row] for row in part} for part in parts.values()]
    assert sum(map(len, held)) == 300
    labels = data.labels["label"]
    assert labels[parts["calibration"][:30]].mean() == pytest.approx(2 / 3, abs=0.1)
    assert parts == split.split(
        data, split.parse("calibration=60,evaluation=rest,confidence=30"), 0
    )
    assert parts != split.split(
        data, split.parse("calibration=60,evaluation=rest,confidence=30"), 1
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("calib=3", "did you mean 'calibration'"),
        ("calibration=0", "a number of rows"),
        ("calibration=1,calibration=2", "twice"),
        ("calibration=rest,evaluation=rest", "two files get the rest"),
    ],
)
def test_a_split_that_says_nothing_sensible(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        split.parse(text)


def test_too_few_rows_are_an_error() -> None:
    with pytest.raises(DataError, match="3 rows cannot give 3 and a rest"):
        split.split(rows([1, 2, 3], [0, 0, 1]), split.parse("calibration=3,evaluation=rest"), 0)


def images(folder: Path, count: int = 12) -> Path:
    for number in range(count):
        kind = folder / ("cat", "dog")[number % 2]
        kind.mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 5, 3), number * 10, np.uint8)
        Image.fromarray(pixels).save(kind / f"{number}.png")
    return folder


def test_images_become_inputs_as_the_spec_says(tmp_path: Path) -> None:
    more = "preprocess: {input: x, size: [4, 4], color: gray, scale: 1.0}\n"
    file = spec(tmp_path, "float[N, 1, 4, 4] x", "y = Flatten(x)", more)
    ended = run("from-images", images(tmp_path / "photos"), "--spec", file)
    assert 'evaluation: {path: "evaluation.npz", metric: accuracy' in ended.stdout
    assert "labels: 0 cat, 1 dog" in ended.stderr
    evaluation, calibration = (
        loaded(tmp_path / f"{kind}.npz") for kind in ("evaluation", "calibration")
    )
    assert set(calibration) == {"x"}
    assert calibration["x"].shape == (2, 1, 4, 4)
    assert evaluation["x"].dtype == np.float32
    assert (evaluation["x"][:, 0, 0, 0] / 10 % 2 == evaluation["label"]).all()


def test_the_same_data_give_the_same_bytes_and_nothing_is_overwritten(tmp_path: Path) -> None:
    photos = images(tmp_path / "photos")
    arguments = ("from-images", photos, "--size", 4, 4, "--out")
    run(*arguments, tmp_path / "a")
    run(*arguments, tmp_path / "b")
    for name in ("calibration.npz", "evaluation.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert {p.name for p in (tmp_path / "a").iterdir()} == {"calibration.npz", "evaluation.npz"}
    with pytest.raises(OutputError, match="--force"):
        run(*arguments, tmp_path / "a")
    run(*arguments, tmp_path / "a", "--force")


def test_all_bad_images_are_told_at_once(tmp_path: Path) -> None:
    photos = images(tmp_path / "photos")
    for number in range(13):
        (photos / "cat" / f"bad{number:02}.png").write_bytes(b"no image")
    with pytest.raises(DataError) as failure:
        run("from-images", photos, "--size", 4, 4, "--out", tmp_path)
    assert "13 bad entries" in failure.value.message
    assert len(failure.value.problems) == 11
    assert str(failure.value.problems[-1]) == "and 3 more"
    assert not list(tmp_path.glob("*.npz"))


def test_images_of_the_wrong_size_are_told_at_the_line_of_preprocess(tmp_path: Path) -> None:
    more = "preprocess: {input: x, size: [5, 4], color: gray}\n"
    file = spec(tmp_path, "float[N, 1, 4, 4] x", "y = Flatten(x)", more)
    with pytest.raises(DataError) as failure:
        run("from-images", images(tmp_path / "photos"), "--spec", file)
    (problem,) = failure.value.problems
    assert (problem.file, problem.line, problem.field) == (str(file), 6, "preprocess")
    assert "the model needs FP32 [N, 1, 4, 4]" in problem.what


def test_a_table_of_numbers_and_words(tmp_path: Path) -> None:
    file = spec(tmp_path, "float[N, 2] x", "y = Identity(x)")
    table = tmp_path / "t.csv"
    lines = [f"{n},{n / 2},{'ba'[n % 2]}" for n in range(20)]
    table.write_text("\n".join(["u,v,kind", *lines]) + "\n")
    ended = run("from-csv", table, "--label", "kind", "--spec", file, "--json")
    said = json.loads(ended.stdout)
    assert said["classes"] == ["a", "b"]
    assert sorted(said["files"].values()) == [4, 16]
    stored = loaded(tmp_path / "evaluation.npz")
    assert (stored["x"][:, 0] == 2 * stored["x"][:, 1]).all()
    assert (stored["label"] == 1 - stored["x"][:, 0] % 2).all()


def test_bad_cells_are_told_by_line_and_column(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("u,v,label\n1,2,0\n1,x,0\n1,2\nnan,2,\n")
    with pytest.raises(DataError) as failure:
        run("from-csv", table, "--label", "label", "--out", tmp_path)
    told = [(p.line, p.what) for p in failure.value.problems]
    assert told == [
        (3, "'v': 'x' is no number"),
        (4, "2 cells, the header has 3"),
        (5, "'u': 'nan' is not finite"),
        (5, "'label': no label"),
    ]


def test_arrays_that_do_not_fit_are_told_at_the_line_of_the_model(tmp_path: Path) -> None:
    file = spec(tmp_path, "float[N, 2] x", "y = Identity(x)")
    values = np.ones((20, 2), np.float32)
    values[3, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", np.arange(20) % 2)
    with pytest.raises(DataError) as failure:
        run("from-npy", tmp_path / "x.npy", "--label", tmp_path / "y.npy", "--spec", file)
    (problem,) = failure.value.problems
    assert (problem.line, problem.field) == (5, "source.onnx")
    assert "NaN or infinity in 1 rows, first row 3" in problem.what


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="no plain array"):
        run("from-npy", tmp_path / "x.npy", "--out", tmp_path)


def test_equal_rows_and_rare_classes_are_said(tmp_path: Path) -> None:
    values = np.arange(40, dtype=np.float32)[:, None]
    values[1] = values[0]
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", (np.arange(40) == 1).astype(np.int64))
    ended = run("from-npy", tmp_path / "x.npy", "--label", tmp_path / "y.npy", "--out", tmp_path)
    assert "1 rows equal an earlier one" in ended.stderr
    assert "1 inputs have more than one label" in ended.stderr
    assert "evaluation has few rows of some classes: 1 " in ended.stderr


def test_evaluation_needs_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(9, dtype=np.float32)[:, None])
    with pytest.raises(RepoBuilderError, match="only calibration can do without labels"):
        run("from-npy", tmp_path / "x.npy", "--split", "evaluation=rest", "--out", tmp_path)
    run("from-npy", tmp_path / "x.npy", "--out", tmp_path)
    assert loaded(tmp_path / "calibration.npz")["x"].shape == (9, 1)


def test_labels_that_the_metric_does_not_read_name_the_one_that_does(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(20, dtype=np.float32)[:, None])
    np.save(tmp_path / "boxes.npy", np.ones((20, 1, 4), np.float32))
    np.save(tmp_path / "y.npy", np.zeros((20, 1), np.int64))
    named = ("--label", f"true_classes={tmp_path / 'y.npy'}")
    boxes = ("--label", f"true_boxes={tmp_path / 'boxes.npy'}")
    command = ("from-npy", tmp_path / "x.npy", "--out", tmp_path)
    with pytest.raises(DataError) as failure:
        run(*command, *boxes, *named)
    assert str(failure.value) == (
        "accuracy reads the label 'label', and there are: true_boxes, true_classes; "
        "name the metric: --metric map50 or map50_ultralytics"
    )
    with pytest.raises(DataError, match="there are: true_classes$"):
        run(*command, *named)
    assert not (tmp_path / "evaluation.npz").exists()
    run(*command, *boxes, *named, "--metric", "map50_ultralytics")
    assert loaded(tmp_path / "evaluation.npz")["true_boxes"].shape == (16, 1, 4)


def test_a_model_of_a_fixed_batch_gets_whole_runs(tmp_path: Path) -> None:
    file = spec(tmp_path, "float[4, 1] x", "y = Identity(x)")
    np.save(tmp_path / "x.npy", np.arange(50, dtype=np.float32)[:, None])
    np.save(tmp_path / "y.npy", np.arange(50) % 2)
    run("from-npy", tmp_path / "x.npy", "--label", tmp_path / "y.npy", "--spec", file)
    assert len(loaded(tmp_path / "calibration.npz")["x"]) == 8
    assert len(loaded(tmp_path / "evaluation.npz")["x"]) == 40


def test_an_output_that_the_file_does_not_type_is_not_written_as_a_name_of_nothing(
    tmp_path: Path,
) -> None:
    file = spec(tmp_path, "float[N, 2] x", "y = Identity(x)")
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.output[0].ClearField("type")
    onnx.save(model, tmp_path / "net.onnx")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 2), np.float32))
    np.save(tmp_path / "label.npy", np.arange(40) % 2)
    label = ("--label", tmp_path / "label.npy")
    ended = run("from-npy", tmp_path / "x.npy", *label, "--spec", file)
    assert "evaluation.npz" in ended.output
    assert '""' not in ended.output


TWO_OUTPUTS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3] x) => (int64[N] label, float[N, 3] probabilities) {
  probabilities = Softmax(x)
  label = ArgMax<axis = 1, keepdims = 0>(x)
}"""


@pytest.mark.parametrize(
    ("more", "reads"),
    [
        ("", 'metric: accuracy, outputs: {scores: "probabilities"}'),
        ("fallback: {max_error: 0.02}\n", 'metric: accuracy, outputs: {scores: "probabilities"}'),
        (
            "data: {evaluation: {path: e.npz, metric: f1, outputs: {scores: label}}}\n",
            'metric: f1, outputs: {scores: "label"}',
        ),
        (
            "fallback: {max_error: 0.02, output: probabilities}\n",
            'metric: accuracy, outputs: {scores: "probabilities"}',
        ),
    ],
)
def test_the_output_of_scores_is_proposed_not_the_class(
    tmp_path: Path, more: str, reads: str
) -> None:
    onnx.save(onnx.parser.parse_model(TWO_OUTPUTS), tmp_path / "net.onnx")
    file = tmp_path / "net.yaml"
    file.write_text(f"name: net\n{CPU}source: {{onnx: net.onnx}}\n{more}")
    values = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", values.argmax(axis=1))
    ended = run("from-npy", tmp_path / "x.npy", "--label", tmp_path / "y.npy", "--spec", file)
    assert reads in ended.stdout


@pytest.mark.parametrize("count", [7, 995, 999, 1200])
def test_the_proposed_samples_are_those_that_the_file_has(tmp_path: Path, count: int) -> None:
    """Also where classes do not divide evenly and copies stay together; copied, it builds."""
    file = spec(tmp_path, "float[N, 1] x", "y = Identity(x)")
    values = (np.arange(count) // 3 * 2.0).astype(np.float32)[:, None]  # three of each
    np.save(tmp_path / "x.npy", values)
    np.save(tmp_path / "y.npy", np.arange(count) // 3 % 7)
    ended = run("from-npy", tmp_path / "x.npy", "--label", tmp_path / "y.npy", "--spec", file)
    proposed = yaml.safe_load(ended.stdout)["data"]["calibration"]
    held = loaded(tmp_path / "calibration.npz")["x"]
    assert proposed["samples"] == len(held)
    asked = split.default(count, labelled=True)["calibration"]
    assert asked is not None
    assert asked - 2 <= len(held) <= asked


def test_single_rows_fill_a_file_exactly() -> None:
    """However odd the classes: rounding a class's share never costs a row."""
    labels = [row % 13 % 5 for row in range(1079)]
    parts = split.split(
        rows(list(range(1079)), labels), {"calibration": 200, "evaluation": None}, 0
    )
    assert [len(part) for part in parts.values()] == [200, 879]
