"""`repo-builder data` for kinds of inputs and labels beyond one table of numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_data_make import images, loaded, run, spec

from repo_builder.base.errors import DataError, UsageError


def test_inputs_of_text(tmp_path: Path) -> None:
    file = spec(tmp_path, "string[N, 1] word, float[N, 2] more", "y = Identity(more)")
    lines = [f"w{n},{n},{n / 2},{n % 2}" for n in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["text,u,v,label", *lines]))
    named = ("--input", "word=text", "--input", "more=u,v")
    run("from-csv", tmp_path / "t.csv", *named, "--label", "label", "--spec", file)
    stored = loaded(tmp_path / "evaluation.npz")
    assert stored["word"].dtype.kind == "U"
    assert stored["more"].shape == (16, 2)
    assert (stored["word"][:, 0] == [f"w{int(n)}" for n in stored["more"][:, 0]]).all()


def test_several_arrays_stay_together(tmp_path: Path) -> None:
    file = spec(tmp_path, "float[N, 2] a, int64[N, 1] b", "y = Identity(a)")
    b = np.arange(40)[:, None]
    np.save(tmp_path / "a.npy", np.hstack([b, b]).astype(np.float32))
    np.save(tmp_path / "b.npy", b)
    np.save(tmp_path / "y.npy", b[:, 0] % 2)
    given = [f"{name}={tmp_path / name}.npy" for name in "ab"]
    run("from-npy", *given, "--label", tmp_path / "y.npy", "--spec", file)
    stored = loaded(tmp_path / "evaluation.npz")
    assert (stored["a"][:, :1] == stored["b"]).all()
    assert (stored["label"] == stored["b"][:, 0] % 2).all()
    with pytest.raises(DataError, match="the model has no input 'c'"):
        run("from-npy", given[0], f"c={tmp_path}/b.npy", "--spec", file, "--force")


def test_labels_of_images_from_a_table(tmp_path: Path) -> None:
    for number in range(20):
        Image.new("L", (4, 4), number * 10).save(tmp_path / f"{number}.png")
    lines = [f"{n}.png,{'odd' if n % 2 else 'even'}" for n in range(20)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["name,label", *lines]))
    arguments = ("from-images", tmp_path, "--labels", table, "--size", 4, 4, "--color", "gray")
    ended = run(*arguments, "--scale", 1, "--out", tmp_path)
    assert "labels: 0 even, 1 odd" in ended.stderr
    stored = loaded(tmp_path / "evaluation.npz")
    assert (stored["x"][:, 0, 0, 0] / 10 % 2 == stored["label"]).all()
    table.write_text("name,label\ngone.png,odd\n")
    with pytest.raises(DataError, match=r"gone\.png: no such image"):
        run(*arguments, "--out", tmp_path, "--force")


def test_rows_for_confidence_are_rows_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(60, dtype=np.float32)[:, None])
    np.save(tmp_path / "y.npy", np.arange(60) % 2)
    split = "calibration=10,evaluation=rest,confidence=20"
    arguments = ("from-npy", tmp_path / "x.npy", "--label", tmp_path / "y.npy", "--split", split)
    ended = run(*arguments, "--out", tmp_path)
    assert 'confidence: {path: "confidence.npz"}' in ended.stdout
    parts = [
        loaded(tmp_path / f"{kind}.npz") for kind in ("calibration", "evaluation", "confidence")
    ]
    assert [len(part["x"]) for part in parts] == [10, 30, 20]
    assert len({float(x) for part in parts for x in part["x"][:, 0]}) == 60
    assert (parts[2]["label"] == parts[2]["x"][:, 0] % 2).all()


def test_sizes_that_the_file_leaves_open_are_tried(tmp_path: Path) -> None:
    body = "w = Constant<value = float[3, 2] {1, 2, 3, 4, 5, 6}>() y = MatMul(x, w)"
    file = spec(tmp_path, "float[N, d] x", body)
    np.save(tmp_path / "x.npy", np.arange(80, dtype=np.float32).reshape(20, 4))
    arguments = ("from-npy", tmp_path / "x.npy", "--spec", file)
    with pytest.raises(DataError) as failure:
        run(*arguments)
    (problem,) = failure.value.problems
    assert (problem.file, problem.line, problem.field) == (str(file), 5, "source.onnx")
    assert "it does not run on the first row, 'x' [1, 4]: " in problem.what
    np.save(tmp_path / "x.npy", np.arange(60, dtype=np.float32).reshape(20, 3))
    run(*arguments)
    assert loaded(tmp_path / "calibration.npz")["x"].shape == (20, 3)


def test_what_no_option_says_is_the_models(tmp_path: Path) -> None:
    file = spec(tmp_path, "float[N, 4, 6, 1] picture", "y = Flatten(picture)")
    arguments = ("from-images", images(tmp_path / "photos"), "--spec", file)
    ended = run(*arguments, "--mean", "0.5", "--std", "0.25")
    stored = loaded(tmp_path / "evaluation.npz")
    assert stored["picture"].shape == (10, 4, 6, 1)
    pixels = (stored["picture"] * 0.25 + 0.5) * 255
    np.testing.assert_allclose(pixels / 10, np.rint(pixels / 10), atol=1e-4)
    line = ended.stdout.splitlines()[-1]
    assert line.startswith("preprocess: ")
    file.write_text(f"{file.read_text()}{line}\n")
    again = run(*arguments, "--force")  # as the line says
    assert "preprocess: " not in again.stdout
    assert (loaded(tmp_path / "evaluation.npz")["picture"] == stored["picture"]).all()
    with pytest.raises(UsageError, match="leave --mean out"):
        run(*arguments, "--force", "--mean", "0.5")


def test_a_mean_for_other_channels(tmp_path: Path) -> None:
    arguments = ("from-images", images(tmp_path / "photos"), "--size", 4, 4, "--out", tmp_path)
    with pytest.raises(DataError, match="preprocess.mean has 1 values; rgb has 3 channels"):
        run(*arguments, "--mean", "0.5")
    with pytest.raises(UsageError, match="write a number a channel"):
        run(*arguments, "--std", "0.5,x,1")


def test_folders_below_folders_are_told(tmp_path: Path) -> None:
    images(tmp_path / "set" / "val")
    with pytest.raises(DataError, match=r"a folder deeper; name the one .*val"):
        run("from-images", tmp_path / "set", "--size", 4, 4, "--out", tmp_path)


def test_what_a_file_holds_is_shown(tmp_path: Path) -> None:
    x = np.array([[0.5, np.nan], [2.0, -3.0]], np.float32)
    file = tmp_path / "e.npz"
    np.savez(file, x=x, label=np.array([1, 1]), word=np.array(["a", "b"]))
    ended = run("show", file)
    assert (
        ended.stdout.split()
        == (
            "array type shape least most mean label int64 [2] 1 1 1 1 classes, rows of each: 1: 2 "
            "word <U1 [2] - - - 2 classes, rows of each: a: 1, b: 1 "
            "x float32 [2, 2] -3 2 -0.1667 NaN or infinity: 1 values"
        ).split()
    )
    (shown,) = json.loads(run("show", file, "--json").stdout).values()
    assert [(a["name"], a["counts"]) for a in shown] == [
        ("label", {"1": 2}),
        ("word", {"a": 1, "b": 1}),
        ("x", {}),
    ]


def test_show_checks_against_a_spec(tmp_path: Path) -> None:
    file = spec(tmp_path, "float[N, 2] x", "y = Identity(x)")
    np.savez(tmp_path / "good.npz", x=np.zeros((3, 2), np.float32))
    np.savez(tmp_path / "bad.npz", x=np.zeros((3, 2)))
    assert "fits the model" in run("show", tmp_path / "good.npz", "--spec", file).stderr
    with pytest.raises(DataError, match="net.yaml:5: source.onnx: 'x' is float64, not float32"):
        run("show", tmp_path / "bad.npz", "--spec", file)
    with pytest.raises(DataError, match="gone.npz is missing"):
        run("show", tmp_path / "gone.npz")
