"""The raw shape of `signal`: how sound or a sensor's samples become a net's input, in the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repo_builder.spec.raw_base import Raw

_Count = Annotated[int, Field(ge=1)]


class RawSamples(Raw):
    """What every kind has."""

    input: str
    """Name of the net's input."""
    samples: _Count
    """How many samples a row has."""
    dtype: Literal["int16", "float32"] = "float32"
    """What is sent; int16 is half the bytes."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Factor of each sample; 1/32768 for int16, else 1, where it is not given."""


class RawLogMel(RawSamples):
    """Sound [n, samples] becomes the logarithm of mel bands [n, bands, frames]."""

    rate: _Count = 16_000
    """Samples a second."""
    n_fft: Annotated[int, Field(ge=2, le=16_384)] = 400
    """Samples of a frame, under a periodic Hann window."""
    hop: _Count = 160
    """Samples from frame to frame."""
    center: bool = True
    """Whether sample i * hop is in the middle of frame i, with zeros beyond both ends; or first."""
    bands: _Count = 80
    """How many mel bands."""
    low_hz: Annotated[float, Field(ge=0)] = 0.0
    """Where the lowest band begins."""
    high_hz: Annotated[float, Field(gt=0)] | None = None
    """Where the highest ends; half the rate where it is not given."""
    mel: Literal["slaney", "htk"] = "slaney"
    """The scale: straight below 1 kHz, or 2595 log10(1 + f / 700)."""
    norm: Literal["slaney", "none"] = "slaney"
    """slaney: each band has an area of 1; none: a height of 1."""
    log: Literal["ln", "log10", "db"] = "ln"
    """Which logarithm of the power; db is 10 log10."""
    floor: Annotated[float, Field(gt=0)] = 1e-10
    """Power below it counts as it."""
    mean: float = 0.0
    """Subtracted from the logarithm."""
    std: Annotated[float, Field(gt=0)] = 1.0
    """Divides after that."""
    layout: Literal["bands_first", "frames_first"] = "bands_first"
    """Order of what the net takes: [n, bands, frames], or [n, frames, bands]."""


class RawSensor(RawSamples):
    """A window [n, samples, channels] becomes (x * scale - mean) / std of every channel."""

    channels: _Count = 1
    """How many."""
    mean: list[float] = []
    """One figure per channel, or none."""
    std: list[Annotated[float, Field(gt=0)]] = []
    """One figure per channel, or none."""
    layout: Literal["channels_first", "samples_first"] = "channels_first"
    """Order of what the net takes: [n, channels, samples], or [n, samples, channels]."""

    @model_validator(mode="after")
    def _one_per_channel(self) -> RawSensor:
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (0, self.channels):
                count = len(getattr(self, name))
                raise ValueError(f"{name} has {count} values for {self.channels} channels")
        return self


class RawSignal(Raw):
    """How samples become a net's input, as operators in the model; one of these."""

    log_mel: RawLogMel | None = None
    """The spectrum of sound."""
    sensor: RawSensor | None = None
    """A sensor's window, normalized."""

    @model_validator(mode="after")
    def _one(self) -> RawSignal:
        if (self.log_mel is None) == (self.sensor is None):
            raise ValueError("write just one of: log_mel, sensor")
        mel = self.log_mel
        if mel is not None:
            high = mel.rate / 2 if mel.high_hz is None else mel.high_hz
            if not mel.low_hz < high <= mel.rate / 2:
                half = f"{mel.rate / 2:g} Hz, half the rate"
                what = f"bands from {mel.low_hz:g} to {high:g} Hz do not lie below {half}"
                raise ValueError(what)
            if mel.samples + (mel.n_fft // 2 * 2 if mel.center else 0) < mel.n_fft:
                raise ValueError(f"{mel.samples} samples are less than a frame of {mel.n_fft}")
        return self
