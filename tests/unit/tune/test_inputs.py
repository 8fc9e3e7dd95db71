"""What load sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repo_builder.base.errors import UsageError
from repo_builder.tune import inputs


def config(datatype: str, dims: list[str], **more: Any) -> dict[str, Any]:
    tensor = {"name": "x", "data_type": f"TYPE_{datatype}", "dims": dims}
    return {"name": "net", "max_batch_size": 8, "input": [tensor], **more}


def test_rows_of_the_calibration_are_sent_in_turn(tmp_path: Path) -> None:
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    found = inputs.made(config("FP32", ["2"]), {"x": rows})
    inputs.write(found, tmp_path / "x.npz")
    sent = inputs.read(tmp_path / "x.npz")
    assert len(sent) == inputs.COUNT
    assert sent[6]["x"].shape == (1, 2)
    np.testing.assert_array_equal(sent[6]["x"][0], rows[1])


def test_a_model_without_a_batch_axis_gets_none() -> None:
    given = config("FP32", ["2"]) | {"max_batch_size": 0}
    assert inputs.made(given)["x"].shape == (inputs.COUNT, 2)
    assert inputs.made(given, {"x": np.zeros((3, 2))})["x"].shape == (inputs.COUNT, 2)


def test_a_batch_axis_that_stands_in_the_dims_has_one_row() -> None:
    given = config("FP32", ["-1", "2"]) | {"max_batch_size": 0}
    assert inputs.made(given)["x"].shape == (inputs.COUNT, 1, 2)
    assert inputs.made(given, {"x": np.zeros((3, 2))})["x"].shape == (inputs.COUNT, 1, 2)


def test_open_dims_are_as_large_as_in_the_warm_up() -> None:
    warm_up = [{"inputs": {"x": {"dims": ["3", "7"]}}}]
    found = inputs.made(config("FP32", ["3", "-1"], model_warmup=warm_up))
    assert found["x"].shape == (inputs.COUNT, 1, 3, 7)
    assert found["x"].dtype == np.float32
    assert 0 <= found["x"].min() < found["x"].max() <= 1


def test_whole_numbers_are_zeros_as_builds_have_tried() -> None:
    assert not inputs.made(config("INT64", ["4"]))["x"].any()


def test_texts_are_not_made_up() -> None:
    with pytest.raises(UsageError, match="input 'x' is STRING, which cannot be made up"):
        inputs.made(config("STRING", ["1"]))
