"""What the tensors around the nodes to quantize hold, on calibration data."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.steps import _calibrate, _data, _onnx, _quantizable, _runtimes
from repo_builder.steps._failures import explained

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def watch(
    model: ModelProto, nodes: Sequence[NodeProto], samples: _data.Samples
) -> dict[str, _calibrate.Histogram]:
    """Run the calibration data and look at every tensor around the nodes to quantize."""
    import onnx

    stored = {tensor.name for tensor in model.graph.initializer}
    made = {name: _quantizable.place(n) for n in model.graph.node for name in n.output if name}
    around = {name for node in nodes for name in (*node.input, *node.output) if name} - stored
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    observed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in sorted((around & made.keys()) - outputs)
    )
    with tempfile.TemporaryDirectory() as scratch:
        _onnx.save(observed, Path(scratch))
        del observed
        runner = _runtimes.load(Path(scratch), "onnxruntime")

        def tensors(run: int) -> dict[str, _data.Array]:
            feed = samples.feed(run)
            return {**feed, **runner.run(feed)}

        names = [name for name in [*made, *samples.arrays] if name in around]
        with explained(f"the model fails on {_calibrate.FILE}", "check the model and its data"):
            return _calibrate.watch(names, map(tensors, range(samples.runs)), made)
