"""Small models of every kind, built in int8 for four runtimes: nothing wrong is published.

What is published is run here on rows that the build did not see, and held against the source; what
is refused is refused in lines that say why. See `tests/zoo.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from workplace import repo_builder

from tests import zoo

TARGETS = ["cpu", "cpu-openvino", "jetson-orin-nx", "tflite-micro"]
VAGUE = re.compile(
    r"node it names|Check 'false'|Exception from|please report|truth value|index \d+ is out"
)
NEVER_EQUAL = {"random-inside"}
"""Two runs of the source differ."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("zoo")
    zoo.write(folder, TARGETS, "int8")
    ended = repo_builder(
        "build", ".", "--store", "store", "--out", "out", "--no-images", "--json", cwd=folder
    )
    report = json.loads(ended.stdout)
    return folder, {row["id"]: row for row in report["rows"]}, ended.stderr


def test_nothing_ends_in_a_traceback_and_every_row_is_there(
    built: tuple[Path, dict[str, Any], str],
) -> None:
    _, rows, said = built
    assert set(rows) == {f"{name}@{target}" for name in zoo.MODELS for target in TARGETS}
    assert "Traceback" not in said
    assert "this is a bug" not in said


def test_what_is_refused_says_why(built: tuple[Path, dict[str, Any], str]) -> None:
    _, rows, _ = built
    refused = {name: row["reason"] for name, row in rows.items() if row["status"] != "built"}
    assert [name for name, reason in refused.items() if not reason or VAGUE.search(reason)] == []
    # What ONNX Runtime can quantize, it does: the zoo's float models with products in them.
    on_cpu = {name.split("@")[0] for name in refused if name.endswith("@cpu")}
    assert on_cpu <= CPU_REFUSES, on_cpu - CPU_REFUSES


CPU_REFUSES = {
    # nothing in it is a product of floats, so there is nothing to quantize
    *("dynamic-quantized", "forest", "gru-state", "if-branches", "integers-large"),
    *("integers-small", "long-reduction", "lstm", "random-inside", "state-of-two", "zip-map"),
    *("double-model", "half-model"),
    # int8 loses too much of them: the gate says how much, and where it begins
    *("layer-norm-large", "odd-scales"),
}


def _answers(session: Any, data: dict[str, Any]) -> dict[str, list[Any]]:
    """Output -> its array for each row, one row a run."""
    inputs = {value.name: len(value.shape) for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    found: dict[str, list[Any]] = {name: [] for name in names}
    for row in range(len(next(iter(data.values())))):
        feed = {
            name: data[name][row : row + 1] if data[name].ndim == rank else data[name][row]
            for name, rank in inputs.items()
        }
        for name, array in zip(names, session.run(names, feed), strict=True):
            found[name].append(array)
    return found


@pytest.mark.parametrize("name", sorted(zoo.MODELS))
def test_what_is_published_answers_like_the_source(
    built: tuple[Path, dict[str, Any], str], name: str
) -> None:
    folder, rows, _ = built
    data = dict(np.load(folder / f"{name}-unseen.npz"))
    source = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    wanted = _answers(source, data)
    for target in ("cpu", "jetson-orin-nx"):
        published = sorted((folder / "out" / target / "models" / name).rglob("model.onnx"))
        assert bool(published) == (rows[f"{name}@{target}"]["status"] == "built")
        if not published or name in NEVER_EQUAL:
            continue
        found = _answers(onnxruntime.InferenceSession(published[0]), data)
        for output, arrays in found.items():
            if output not in wanted or not isinstance(wanted[output][0], np.ndarray):
                continue  # what ZipMap gave in maps comes as a tensor
            whole, other = (np.stack(x).astype(np.float64) for x in (wanted[output], arrays))
            assert whole.shape == other.shape, (target, output)
            assert _like(whole, other), (target, output)


def _like(whole: Any, other: Any) -> bool:
    """Whether answers in int8 are those of the source: by direction, or equal to one in twenty."""
    if whole.size == 0 or np.array_equal(whole, other):
        return True
    norm = np.linalg.norm(whole) * np.linalg.norm(other)
    cosine = float(np.sum(whole * other) / norm) if norm else 0.0
    return cosine > 0.98 or float(np.mean(whole == other)) > 0.95
