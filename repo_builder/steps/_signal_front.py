"""Spectra of sound and windows of sensors: as operators, and the same in numpy.

The Fourier transform of a frame is a convolution with the window times cosines and sines, so that
every runtime has it; ONNX's STFT is not in TensorRT's parser nor in older ones of OpenVINO.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.plan.front import SIGNAL_PREFIX
from repo_builder.steps._graph import Graph

Array = npt.NDArray[Any]
OPSET = 13
_KNEE_HZ, _SLOPE = 1000.0, 200.0 / 3
_STEP = np.log(6.4) / 27.0
"""Slaney's Auditory Toolbox: 200/3 Hz a mel below 1 kHz, 27 mels from there to 6.4 times it."""


def mel(hz: Array, scale: str) -> Array:
    """Frequencies on the mel scale."""
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))
    above = _KNEE_HZ / _SLOPE + np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _STEP
    return np.where(hz < _KNEE_HZ, hz / _SLOPE, above)


def hertz(mels: Array, scale: str) -> Array:
    """The other way round."""
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mels / 2595.0) - 1.0))
    knee = _KNEE_HZ / _SLOPE
    return np.where(
        mels < knee, mels * _SLOPE, _KNEE_HZ * np.exp(_STEP * (np.maximum(mels, knee) - knee))
    )


def filters(said: Mapping[str, Any]) -> Array:
    """Triangles [bands, n_fft // 2 + 1], each from the middle of one neighbour to the other's."""
    ends = np.array([said["low_hz"], said["high_hz"] or said["rate"] / 2])
    low, high = mel(ends, said["mel"]).tolist()
    edges = hertz(np.linspace(low, high, said["bands"] + 2), said["mel"])
    bins = np.arange(said["n_fft"] // 2 + 1) * said["rate"] / said["n_fft"]
    widths = np.diff(edges)[:, None]
    slopes = edges[:, None] - bins
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    if said["norm"] == "slaney":
        triangles *= 2.0 / (edges[2:] - edges[:-2])[:, None]
    return np.asarray(triangles)


def transform(n_fft: int) -> Array:
    """Cosines, then sines, times the window: [2 * (n_fft // 2 + 1), n_fft]."""
    time, bins = np.arange(n_fft), np.arange(n_fft // 2 + 1)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / n_fft)
    angle = 2 * np.pi * (bins * time % n_fft) / n_fft
    return np.concatenate([window * np.cos(angle), window * np.sin(angle)])


def scale(said: Mapping[str, Any]) -> float:
    """Factor of a sample as it is sent."""
    return float(said["scale"] or (1 / 32768 if said["dtype"] == "int16" else 1.0))


def expected(kind: str, said: Mapping[str, Any], samples: Array) -> Array:
    """What the net is given of samples [n, ...], in float64."""
    x = samples.astype(np.float64) * scale(said)
    if kind == "sensor":
        x = (x - np.array(said["mean"] or 0.0)) / np.array(said["std"] or 1.0)
        return np.asarray(x.transpose(0, 2, 1) if said["layout"] == "channels_first" else x)
    n_fft, hop = said["n_fft"], said["hop"]
    if said["center"]:
        x = np.pad(x, ((0, 0), (n_fft // 2, n_fft // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(x, n_fft, axis=1)[:, ::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    bands = np.maximum(power @ filters(said).T, said["floor"])
    value = np.log(bands) * _per_ln(said["log"])
    value = (value - said["mean"]) / said["std"]
    return np.asarray(value if said["layout"] == "frames_first" else value.transpose(0, 2, 1))


def _per_ln(log: str) -> float:
    return {"ln": 1.0, "log10": 1 / math.log(10), "db": 10 / math.log(10)}[log]


def front(kind: str, said: Mapping[str, Any], samples: str, rank: int) -> tuple[Graph, str]:
    """The operators from `samples`, and their last output, of so many dimensions.

    One dimension more than the features have is a channel in front of them.
    """
    from onnx import TensorProto

    g = Graph(SIGNAL_PREFIX)
    value = g.add("Cast", [samples], "float", to=TensorProto.FLOAT)
    value = g.add("Mul", [value, g.float32("scale", scale(said), scalar=True)], "scaled")
    value = _normalized(g, said, value) if kind == "sensor" else _log_mel(g, said, value)
    if rank == 4:
        value = g.add("Unsqueeze", [value, g.int64("channel_axis", 1)], "channel")
    return g, value


def _normalized(g: Graph, said: Mapping[str, Any], value: str) -> str:
    if said["mean"]:
        value = g.add("Sub", [value, g.float32("mean", *said["mean"])], "centered")
    if said["std"]:
        value = g.add("Div", [value, g.float32("std", *said["std"])], "standardized")
    if said["layout"] == "channels_first":
        value = g.add("Transpose", [value], "laid_out", perm=[0, 2, 1])
    return value


def _log_mel(g: Graph, said: Mapping[str, Any], value: str) -> str:
    n_fft = said["n_fft"]
    pads = [n_fft // 2] * 2 if said["center"] else [0, 0]
    weights = g.constant("transform", transform(n_fft)[:, None].astype(np.float32))
    value = g.add("Unsqueeze", [value, g.int64("one_channel", 1)], "line")
    value = g.add("Conv", [value, weights], "parts", strides=[said["hop"]], pads=pads)
    squares = g.add("Mul", [value, value], "squares")
    # The mel bands of both parts at once: power is the sum of their squares.
    both = np.concatenate([filters(said), filters(said)], axis=1).astype(np.float32)
    value = g.add("MatMul", [g.constant("mel", both), squares], "bands")
    value = g.add("Max", [value, g.float32("floor", said["floor"], scalar=True)], "no_less")
    value = g.add("Log", [value], "log")
    factor = _per_ln(said["log"]) / said["std"]
    value = g.add("Mul", [value, g.float32("per_ln", factor, scalar=True)], "in_unit")
    value = g.add("Sub", [value, g.float32("mean", said["mean"] / said["std"], scalar=True)], "out")
    if said["layout"] == "frames_first":
        value = g.add("Transpose", [value], "laid_out", perm=[0, 2, 1])
    return value
