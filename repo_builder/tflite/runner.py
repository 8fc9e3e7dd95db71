"""Runs a written model in LiteRT, with arrays as ONNX has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import MissingExtra
from repo_builder.tflite.ports import Ports

Array = npt.NDArray[Any]


class Runner:
    """A loaded model. `reference` takes the kernels that TFLite Micro shares, else LiteRT's own.

    ValueError where LiteRT refuses the model.
    """

    def __init__(self, data: bytes, ports: Ports, *, reference: bool = False) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError:
            raise MissingExtra("tflite", "running TFLite") from None

        kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        self.ports = ports
        self._interpreter = Interpreter(
            model_content=data, experimental_op_resolver_type=kernels, num_threads=1
        )
        self._interpreter.allocate_tensors()
        self._inputs = [item["index"] for item in self._interpreter.get_input_details()]
        self._outputs = [item["index"] for item in self._interpreter.get_output_details()]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name. Arrays of several rows are run one row after another."""
        block = max(self.ports.inputs[0].shape[:1] or (1,))
        rows = len(feeds[self.ports.inputs[0].name]) // block
        parts = [
            self._one({name: array[i * block : (i + 1) * block] for name, array in feeds.items()})
            for i in range(rows)
        ]
        if len(parts) == 1:  # also of an output without dimensions
            return parts[0]
        return {
            port.name: np.concatenate([np.atleast_1d(part[port.name]) for part in parts])
            for port in self.ports.outputs
        }

    def _one(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        for port, index in zip(self.ports.inputs, self._inputs, strict=True):
            self._interpreter.set_tensor(index, port.store(feeds[port.name]))
        self._interpreter.invoke()
        return {
            port.name: port.load(self._interpreter.get_tensor(index))
            for port, index in zip(self.ports.outputs, self._outputs, strict=True)
        }
