"""`compile-qnn`: an HTP context binary for a Snapdragon, run in QNN's simulator."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.base import resources
from repo_builder.base.errors import StepError
from repo_builder.introspect import quantized
from repo_builder.steps import _canonical, _onnx, _qnn, _rows
from repo_builder.steps._data import Array
from repo_builder.steps._level import Level

if TYPE_CHECKING:
    import onnxruntime

SECONDS = 60.0
"""After so long no further row runs in the simulator."""

MODEL = "model.onnx"
CONTEXT = "model_qnn.bin"
WRAPPER = "model.py"


@dataclass(frozen=True)
class Params:
    """`htp_arch` is the HTP's generation (75: V75), `soc_model` Qualcomm's number of the SoC.

    `rows`: how many rows of data run in the simulator, fewer where it takes longer than `SECONDS`
    for them: it takes tens of ms for a small model, minutes for a large image.
    """

    htp_arch: int
    soc_model: int = 0
    rows: int = 20


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx`, QDQ for int8 and int16, float for fp16.

    `evaluation`: one with `evaluation.npz`, an array for each input; noise where there is none.
    """

    model: Path
    evaluation: Path | None = None


@dataclass(frozen=True)
class Difference:
    """The simulator's output against ONNX Runtime's: largest, and norm of it over the norm."""

    output: str
    max_abs: float
    relative: float


@dataclass(frozen=True)
class Facts:
    """`context_size` is in bytes; `data` is what ran: "evaluation" or "noise"."""

    context_size: int
    sdk: str
    htp_arch: int
    soc_model: int
    data: str
    rows: int
    differences: tuple[Difference, ...]
    level: Level


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.onnx` (wrapper), `model_qnn.bin` (context), `model.py` (for Triton's python).

    ModelError names dynamic dimensions, and operators that the NPU cannot run; StepError where
    the simulator's answers are not finite.
    """
    import onnxruntime

    from repo_builder.introspect.static import with_static_shapes

    given = _onnx.load(inputs.model)
    if quantized.find(given) is None:
        # QNN knows no alpha, beta and transA; of a quantized model the quantizer took them out.
        _canonical.node_names(given)
        _canonical.plain_products(given)
    model = with_static_shapes(given, "cannot compile for the Snapdragon's NPU")
    content = model.SerializeToString(deterministic=True)
    _qnn.compile_context(content, out / MODEL, htp_arch=params.htp_arch, soc_model=params.soc_model)
    shutil.copyfile(resources.folder("templates") / "qnn" / WRAPPER, out / WRAPPER)
    compiled = _qnn.load(out / MODEL)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    plain = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    tensors = [_qnn.tensor(node) for node in plain.get_inputs()]
    feeds = _rows.feeds(inputs.evaluation, tensors, params.rows)
    differences, rows = _compare(compiled, plain, feeds)
    data = "evaluation" if inputs.evaluation else "noise"
    reason = (
        f"QNN's simulator ran the context binary on {rows} rows of {data} data; "
        "no Snapdragon was here"
    )
    return Facts(
        (out / CONTEXT).stat().st_size,
        _sdk(out / MODEL),
        params.htp_arch,
        params.soc_model,
        data,
        rows,
        differences,
        Level("simulated", reason),
    )


def _sdk(wrapper: Path) -> str:
    """The version of Qualcomm's SDK that made the context, from the wrapper's only node."""
    import onnx

    node = onnx.load(wrapper, load_external_data=False).graph.node[0]
    return next((a.s.decode() for a in node.attribute if a.name == "ep_sdk_version"), "unknown")


def _compare(
    compiled: onnxruntime.InferenceSession,
    plain: onnxruntime.InferenceSession,
    feeds: Sequence[dict[str, Array]],
) -> tuple[tuple[Difference, ...], int]:
    """The differences of all outputs, and on how many of the rows."""
    names = [node.name for node in plain.get_outputs()]
    ours: list[Sequence[Array]] = []
    theirs: list[Sequence[Array]] = []
    begun = time.monotonic()
    for feed in feeds:
        if ours and time.monotonic() - begun > SECONDS:
            break
        ours.append(compiled.run(names, feed))
        theirs.append(plain.run(names, feed))
    differences = []
    for number, name in enumerate(names):
        a = np.stack([row[number] for row in ours]).astype(np.float64)
        b = np.stack([row[number] for row in theirs]).astype(np.float64)
        if not np.isfinite(a).all():
            raise StepError(
                f"output '{name}' is not finite in QNN's simulator; use another precision"
            )
        b = np.where(np.isfinite(b), b, a)  # a mask of -inf, which the device has at fp16's end
        gap = np.abs(a - b)
        norm = float(np.linalg.norm(b)) or 1.0
        relative = float(np.linalg.norm(gap)) / norm
        differences.append(Difference(name, float(gap.max(initial=0.0)), relative))
    return tuple(differences), len(ours)
