"""Spectra and sensor windows as operators: beside librosa, in both runtimes of the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from pydantic import ValidationError
from workbench import Bench, make

from repo_builder.base.errors import ModelError
from repo_builder.spec.raw_signal import RawLogMel, RawSensor, RawSignal
from repo_builder.steps import _signal_front

Array = np.ndarray[Any, Any]


def joined(bench: Bench, kind: str, said: dict[str, Any], shape: list[int | str]) -> Path:
    same = helper.make_node("Identity", ["x"], ["y"])
    model = bench.model(make([same], {"x": shape}, {"y": shape}))
    out, facts = bench.run("join-signal", params={"kind": kind, "params": said}, model=model)
    assert facts.largest <= 1e-3
    return Path(out) / "model.onnx"


def answers(path: Path, rows: Array) -> list[Array]:
    import openvino as ov

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(path, "CPU", exact)
    return [session.run(None, {"x": rows})[0], compiled({"x": rows})[0]]


def sound(rows: int, samples: int) -> Array:
    random = np.random.default_rng(1)
    time = np.arange(samples) / 16_000
    chirp = np.sin(2 * np.pi * (300 + 2500 * time) * time)
    return (0.4 * chirp + random.normal(0, 0.05, (rows, samples))).astype(np.float32)


@pytest.mark.parametrize("change", [
    {}, {"mel": "htk", "norm": "none", "log": "log10"}, {"log": "db", "n_fft": 512, "hop": 128},
    {"center": False, "layout": "frames_first"}, {"low_hz": 60.0, "high_hz": 7000.0, "bands": 40},
    {"mean": -4.5, "std": 4.0},
])  # fmt: skip
def test_a_spectrum_is_that_of_librosa(bench: Bench, change: dict[str, Any]) -> None:
    import librosa

    said = RawLogMel(input="x", samples=8000, **change).model_dump()
    power = librosa.feature.melspectrogram(
        y=(rows := sound(2, 8000)),
        sr=16_000,
        n_fft=said["n_fft"],
        hop_length=said["hop"],
        center=said["center"],
        pad_mode="constant",
        n_mels=said["bands"],
        fmin=said["low_hz"],
        fmax=said["high_hz"] or 8000,
        htk=said["mel"] == "htk",
        norm=None if said["norm"] == "none" else "slaney",
    )
    factor = {"ln": 1, "log10": 1 / np.log(10), "db": 10 / np.log(10)}[said["log"]]
    wanted = np.log(np.maximum(power, said["floor"])) * factor
    wanted = (wanted - said["mean"]) / said["std"]
    if said["layout"] == "frames_first":
        wanted = wanted.transpose(0, 2, 1)
    path = joined(bench, "log_mel", said, ["N", *wanted.shape[1:]])
    for answer in answers(path, rows):
        assert answer.shape == wanted.shape
        assert np.abs(answer - wanted).max() <= 1e-3 * np.ptp(wanted)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_filters_are_those_of_librosa(scale: str) -> None:
    import librosa

    said = RawLogMel(input="x", samples=8000, n_fft=1024, bands=64, mel=scale).model_dump()
    wanted = librosa.filters.mel(
        sr=16_000, n_fft=1024, n_mels=64, htk=scale == "htk", dtype=np.float64
    )
    np.testing.assert_allclose(_signal_front.filters(said), wanted, atol=1e-12)


def test_sound_may_be_sent_in_16_bits_to_a_net_with_a_channel(bench: Bench) -> None:
    said = RawLogMel(input="x", samples=4000, dtype="int16").model_dump()
    rows = np.rint(sound(3, 4000) * 32767).astype(np.int16)
    wanted = _signal_front.expected("log_mel", said, rows)
    path = joined(bench, "log_mel", said, ["N", 1, *wanted.shape[1:]])
    for answer in answers(path, rows):
        assert np.abs(answer[:, 0] - wanted).max() <= 1e-3 * np.ptp(wanted)


@pytest.mark.parametrize("layout", ["channels_first", "samples_first"])
def test_a_sensors_window_is_normalized(bench: Bench, layout: str) -> None:
    said = RawSensor(
        input="x", samples=50, channels=3, dtype="int16", scale=0.01, mean=[1, 2, 3], std=[2, 3, 4],
        layout=layout,
    ).model_dump()  # fmt: skip
    rows = np.random.default_rng(0).integers(-3000, 3000, (4, 50, 3)).astype(np.int16)
    wanted = (rows * 0.01 - np.array([1, 2, 3])) / np.array([2, 3, 4])
    wanted = wanted.transpose(0, 2, 1) if layout == "channels_first" else wanted
    for answer in answers(joined(bench, "sensor", said, ["N", *wanted.shape[1:]]), rows):
        np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-4)


def test_what_the_net_does_not_take_is_refused(bench: Bench) -> None:
    said = RawLogMel(input="x", samples=8000).model_dump()
    with pytest.raises(ModelError, match=r"and what is made FLOAT \['n', 80, 51\]; correct"):
        joined(bench, "log_mel", said, ["N", 80, 52])
    with pytest.raises(ModelError, match="signal.log_mel.input: the model has no input 'z'"):
        joined(bench, "log_mel", {**said, "input": "z"}, ["N", 80, 51])


@pytest.mark.parametrize(("values", "message"), [
    ({}, "write just one of"),
    ({"log_mel": {"input": "x", "samples": 100, "center": False}}, "less than a frame of 400"),
    ({"log_mel": {"input": "x", "samples": 9000, "high_hz": 9000}}, "half the rate"),
    ({"sensor": {"input": "x", "samples": 9, "channels": 2, "mean": [1]}}, "has 1 values for 2"),
])  # fmt: skip
def test_what_says_nothing_sound_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RawSignal(**values)
