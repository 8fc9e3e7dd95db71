from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError
from repo_builder.steps import _data

IMAGE = Tensor("image", "FP32", ("N", 3, 4))
GOOD = np.zeros((5, 3, 4), np.float32)


def nan(value: float) -> Any:
    bad = GOOD.copy()
    bad[2, 0, 1] = value
    return bad


@pytest.mark.parametrize(
    ("arrays", "count", "expected"),
    [
        ({"imgae": GOOD}, None, "no array 'image'; .*FP32 .N, 3, 4.; did you mean 'imgae'"),
        ({"image": GOOD.astype(np.float64)}, None, r"float64, not float32; .*astype\('float32'\)"),
        ({"image": GOOD[:, :2]}, None, r"has shape \[5, 2, 4\], the model needs FP32 \[N, 3, 4\]"),
        ({"image": GOOD[0]}, None, r"has shape \[3, 4\]"),
        ({"image": np.float32(1)}, None, r"has shape \[\]"),
        ({"image": GOOD[:0]}, None, "is empty"),
        ({"image": GOOD}, 6, "has 5 rows, 6 samples are asked"),
        ({"image": nan(np.nan)}, None, "NaN or infinity in 1 rows, first row 2"),
        ({"image": nan(np.inf)}, None, "NaN or infinity in 1 rows, first row 2"),
    ],
)
def test_what_does_not_fit(arrays: dict[str, Any], count: int | None, expected: str) -> None:
    with pytest.raises(DataError, match=expected) as caught:
        _data.check(arrays, [IMAGE], "calibration.npz", count)
    assert all(problem.file == "calibration.npz" for problem in caught.value.problems)


def test_all_problems_at_once() -> None:
    other = Tensor("mask", "BOOL", ("N", 4))
    arrays = {"image": nan(np.nan).astype(np.float64), "mask": np.ones((5, 5), np.int64)}
    with pytest.raises(DataError) as caught:
        _data.check(arrays, [IMAGE, other], "data.npz", 9)
    assert len(caught.value.problems) == 5  # type, rows, NaN; type, shape


def test_inputs_that_disagree_about_rows() -> None:
    other = Tensor("mask", "BOOL", ("N", 4))
    arrays = {"image": GOOD, "mask": np.ones((4, 4), bool)}
    with pytest.raises(DataError, match="different numbers of rows: 'image' 5, 'mask' 4"):
        _data.check(arrays, [IMAGE, other], "data.npz")


def test_rows_of_a_fixed_batch_come_in_blocks() -> None:
    fixed = Tensor("image", "FP32", (2, 3))
    array = np.arange(18, dtype=np.float32).reshape(6, 3)
    samples = _data.check({"image": array}, [fixed], "data.npz")
    assert (samples.runs, samples.rows) == (3, 6)
    np.testing.assert_array_equal(samples.feed(1)["image"], array[2:4])
    with pytest.raises(DataError, match="has 5 rows; the model takes 2 at once"):
        _data.check({"image": array}, [fixed], "data.npz", 5)


def test_entries_of_a_model_without_batch_dimension() -> None:
    tensors = [Tensor("image", "FP32", (4, 3)), Tensor("level", "FP32", ())]
    arrays = {"image": np.ones((6, 4, 3), np.float32), "level": np.ones(6, np.float32)}
    samples = _data.check(arrays, tensors, "data.npz")
    feed = samples.feed(5)
    assert (samples.runs, feed["image"].shape, feed["level"].shape) == (6, (4, 3), ())
    assert samples.first(2).arrays["image"].shape == (2, 4, 3)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    with pytest.raises(DataError, match="missing"):
        _data.read(file)
    file.write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match="damaged|no .npz"):
        _data.read(file)
    np.savez(file, a=np.array([{"runs": "code"}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        _data.read(file)
    with file.open("wb") as opened:
        np.save(opened, GOOD)
    with pytest.raises(DataError, match="is a .npy array"):
        _data.read(file)
    np.savez_compressed(file, a=GOOD)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged"):
        _data.read(file)


def test_written_bytes_depend_on_arrays_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "1.npz", tmp_path / "2.npz"
    words = np.array(["a", "bc"], dtype=object)
    _data.write(one, {"a": GOOD, "b": words})
    _data.write(two, {"b": words, "a": GOOD})
    assert one.read_bytes() == two.read_bytes()
    assert _data.read(one)["b"].tolist() == ["a", "bc"]


def test_labels_must_match_the_rows() -> None:
    stored = {"label": np.arange(5), "lable": np.arange(5)}
    assert list(_data.labels(stored, {"label": "label"}, 5, "e.npz", True)) == ["label"]
    with pytest.raises(DataError, match="'label' has 5 labels for 4 rows"):
        _data.labels(stored, {"label": "label"}, 4, "e.npz", True)
    with pytest.raises(DataError, match="'label' has 5 labels for 6 rows"):
        _data.labels(stored, {"label": "label"}, 6, "e.npz", False)
    with pytest.raises(DataError, match="no array 'labels' for the metric's 'label'"):
        _data.labels(stored, {"label": "labels"}, 5, "e.npz", True)
