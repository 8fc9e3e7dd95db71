"""Why LiteRT's reference kernels drift from ONNX Runtime in deep nets: their rounding, all of it.

ONNX Runtime and LiteRT's own kernels round once what a convolution summed up. The reference
kernels, and with them TensorFlow Lite Micro and Ethos-U, round twice: to a 32-bit integer after
the multiplier's 31 bits, then at its shift of n. What the first rounding lifts onto a tie, the
second lifts once more: a step too far in about one of 2^(n+1) values. Scales decide n, so no
choice of operators can avoid it; here every convolution and product of the examples is computed
from what the kernel read, and each value must be what rounding twice gives.
"""

from __future__ import annotations

import importlib.util
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from repo_builder.steps import quantize
from repo_builder.tflite import write

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layer:
    """One CONV_2D or FULLY_CONNECTED as it ran: 32-bit sums, and what the kernel made of them."""

    sums: Ints
    multipliers: npt.NDArray[np.float64]
    """Of each output channel: scale of the sums over scale of the output."""
    least: int
    zero_point: int
    made: Ints

    def stored(self, steps: Ints) -> Ints:
        """Output steps as int8."""
        return np.clip(steps + self.zero_point, self.least, 127)


def rounded_once(layer: Layer) -> Ints:
    return np.rint(layer.sums * layer.multipliers).astype(np.int64)


def rounded_twice(layer: Layer) -> Ints:
    """Half away from zero both times, with the multiplier as 31 bits and a shift to the right."""
    fractions, exponents = np.frexp(layer.multipliers)
    product = layer.sums * np.rint(fractions * (1 << 31)).astype(np.int64)
    first = np.sign(product) * ((np.abs(product) + (1 << 30)) >> 31)
    shift = -exponents.astype(np.int64)
    assert (shift > 0).all()
    return np.asarray(np.sign(first) * ((np.abs(first) + (1 << (shift - 1))) >> shift))


def layers(model: onnx.ModelProto, rows: npt.NDArray[np.float32]) -> Iterator[Layer]:
    """Every convolution and product of a QDQ model, for each row, by the reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    written = write(model)
    interpreter = Interpreter(
        model_content=written.data,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    for row in rows:
        interpreter.set_tensor(given["index"], written.ports.inputs[0].store(row[None]))
        interpreter.invoke()
        for op in interpreter._get_ops_details():
            if op["op_name"] in ("CONV_2D", "FULLY_CONNECTED"):
                yield _layer(interpreter, [*op["inputs"], *op["outputs"]])


def _layer(interpreter: Any, tensors: list[int]) -> Layer:
    details = {item["index"]: item["quantization_parameters"] for item in
               interpreter.get_tensor_details()}  # fmt: skip
    x, weights, bias, made = (interpreter.get_tensor(i).astype(np.int64) for i in tensors)
    scales = [details[i]["scales"].astype(np.float64) for i in tensors]
    x -= details[tensors[0]]["zero_points"][0]
    zero_point = int(details[tensors[3]]["zero_points"][0])
    sums = x.reshape(-1, weights.shape[-1]) @ weights.T if weights.ndim == 2 else (
        _convolved(x, weights, made.shape)
    )  # fmt: skip
    clipped = bool(made.min() >= zero_point)  # a fused Relu
    return Layer(
        sums.reshape(made.shape) + bias,
        np.broadcast_to(scales[0] * scales[1] / scales[3], made.shape[-1:]),
        zero_point if clipped else -128,
        zero_point,
        made,
    )


def _convolved(x: Ints, weights: Ints, made: tuple[int, ...]) -> Ints:
    """The sums of a convolution, channels last; the examples' pads are TFLite's SAME or none."""
    stride = max(1, round(x.shape[1] / made[1]))
    kernel = weights.shape[1:3]
    lacking = [max((made[i + 1] - 1) * stride + kernel[i] - x.shape[i + 1], 0) for i in (0, 1)]
    around = [(0, 0), *((n // 2, n - n // 2) for n in lacking), (0, 0)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, around), kernel, axis=(1, 2))  # type: ignore[call-overload]
    windows = windows[:, ::stride, ::stride][:, : made[1], : made[2]]
    return np.asarray(np.tensordot(windows, weights, axes=([3, 4, 5], [3, 1, 2])))


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_reference_kernels_round_twice_and_that_is_all(
    name: str, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    if importlib.util.find_spec("ai_edge_litert") is None:
        unavailable("the extra `tflite` is not installed")
    specs = Path("model_specs") / name
    (tmp_path / "float").mkdir()
    shutil.copyfile(specs / f"{name}.onnx", tmp_path / "float" / "model.onnx")
    params = quantize.Params("u8s8", samples=100, whole=True)
    quantize.run(quantize.Inputs(tmp_path / "float", specs), params, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    with np.load(specs / "evaluation.npz", allow_pickle=False) as data:
        rows = data[model.graph.input[0].name][:4]
    count = apart = 0
    expected = 0.0
    for layer in layers(model, rows):
        np.testing.assert_array_equal(layer.made, layer.stored(rounded_twice(layer)))
        steps = np.abs(layer.made - layer.stored(rounded_once(layer)))
        assert steps.max() <= 1
        count += steps.size
        apart += int(steps.sum())
        shifts = [-math.frexp(multiplier)[1] for multiplier in layer.multipliers]
        expected += steps.size * float(np.mean([2.0 ** -(n + 1) for n in shifts]))
    # Fewer than expected: what a Relu cuts off is equal however it was rounded.
    assert 0 < apart < expected * 1.2
    assert expected / count < 0.002
