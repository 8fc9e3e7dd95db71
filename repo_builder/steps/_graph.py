"""Graphs of ONNX operators, written node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


class Graph:
    """Nodes and constants, in the order in which they are added; all names begin with `prefix`.

    Names with a `/` at the start, and the empty one, stand as they are.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """A node with one output; returns that output's name."""
        from onnx import helper

        named = self.prefix + output
        self.nodes.append(helper.make_node(operator, inputs, [named], named, **attributes))
        return named

    def int64(self, name: str, *values: int, scalar: bool = False) -> str:
        """A constant [n], or a scalar; returns its name."""
        return self.constant(name, np.array(values[0] if scalar else values, np.int64))

    def float32(self, name: str, *values: float, scalar: bool = False) -> str:
        """As `int64`."""
        return self.constant(name, np.array(values[0] if scalar else values, np.float32))

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """A stored array; returns its name."""
        from onnx import numpy_helper

        named = self.prefix + name
        self.constants.append(numpy_helper.from_array(value, named))
        return named
