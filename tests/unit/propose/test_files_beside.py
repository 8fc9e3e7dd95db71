"""Files beside a model: which are found, which fit, and what metric their labels bring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import DataError
from repo_builder.propose import beside, measure

INPUT = (Tensor("x", "FP32", ("n", 3)),)


def test_a_file_of_the_model_wins_over_one_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    for name in ("calibration.npz", "net/calibration.npz", "net-calibration.npz", "classes.txt"):
        (tmp_path / name).touch()
    found = beside.find("net", [tmp_path])
    assert found.calibration == tmp_path / "net-calibration.npz"
    assert found.labels == tmp_path / "classes.txt"
    assert found.evaluation is None
    (tmp_path / "net-calibration.npz").unlink()
    assert beside.find("net", [tmp_path]).calibration == tmp_path / "net" / "calibration.npz"
    assert beside.find("other", [tmp_path]).calibration == tmp_path / "calibration.npz"


@pytest.fixture
def net(tmp_path: Path) -> Path:
    file = tmp_path / "net.onnx"
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n,3] x) => (float[n,3] y) '
    onnx.save(onnx.parser.parse_model(text + "{ y = Softmax(x) }"), file)
    return file


def fitting(net: Path, **arrays: Any) -> measure.Measured:
    file = net.parent / "evaluation.npz"
    np.savez(file, **arrays)
    candidates = [
        measure.Candidate("accuracy", {"scores": "y"}),
        measure.Candidate("auroc", {"reconstruction": "y"}),
        measure.Candidate("cer", {"scores": "y"}),
        measure.Candidate("rmse", {"value": "y"}),
    ]
    return measure.fitting(net, file, INPUT, candidates)


def test_the_metric_follows_from_the_labels(net: Path) -> None:
    x = np.eye(3, dtype=np.float32)[np.arange(30) % 3] * 9
    found = fitting(net, x=x, digit=np.arange(30) % 3)
    assert (found.metric, found.labels, found.value) == ("accuracy", {"label": "digit"}, 1.0)
    found = fitting(net, x=x, target=np.zeros((30, 3), np.float32))
    assert (found.metric, found.labels) == ("rmse", {"target": "target"})
    found = fitting(net, x=x, anomaly=np.arange(30) % 2)
    assert found.metric == "auroc"


def test_why_no_metric_fits_is_said(net: Path) -> None:
    x = np.zeros((6, 3), np.float32)
    assert fitting(net, x=x).why == "it has no labels, only the inputs"
    assert "has classes 0..5; the model has 3" in fitting(net, x=x, digit=np.arange(6)).why
    assert "labels such as 'words' <U1 [2]" in fitting(net, x=x, words=np.array(["a", "b"])).why
    with pytest.raises(DataError, match="does not fit the model"):
        fitting(net, x=np.zeros((6, 4), np.float32), digit=np.arange(6))
