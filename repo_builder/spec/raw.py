"""The raw shape of a spec file: exactly what a user may write, nothing resolved.

The JSON Schema for editors is generated from these types, so field docstrings are help texts (see
`schema.py`; pydantic's own way to read them costs every command a tenth of a second).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Union

from pydantic import Field, field_validator, model_validator

from repo_builder.client.models.policies import Activation, PolicyName, ScoreLayout
from repo_builder.spec.raw_base import Raw
from repo_builder.spec.raw_family import RawFamily
from repo_builder.spec.raw_postprocess import RawPostprocess
from repo_builder.spec.raw_pruning import RawPrune
from repo_builder.spec.raw_release import RawRelease
from repo_builder.spec.raw_signal import RawSignal
from repo_builder.spec.raw_source import RawSource
from repo_builder.spec.raw_training import RawDistill, RawTrain
from repo_builder.spec.search import SearchObjective
from repo_builder.spec.serving import Overlay
from repo_builder.spec.types import MetricName, Objective, Place, Precision
from repo_builder.targets.types import (
    ActivationType,
    CalibrationMethod,
    HardwareCompatibility,
    Repair,
    WeightType,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PART = "(0|[1-9][0-9]{0,2})"
_VERSION = re.compile(rf"{_PART}\.{_PART}\.{_PART}")


_Size = Annotated[int, Field(ge=1)]
Sizes = dict[str, Union[_Size, list[Union[_Size, None]]]]


class RawCalibration(Raw):
    """Unlabelled samples that fix the ranges of quantization."""

    path: str
    """A .npz file with one array per model input, named like it."""
    samples: Annotated[int, Field(ge=1, le=100_000)] = 200
    """How many rows are used, from the start."""


class RawOwnMetric(Raw):
    """A function of your own, for `metric: own`."""

    file: str
    """A Python file with the function, beside the spec. It runs in the build: it is your code."""
    function: str = "score"
    """Its name: `def score(outputs, arrays): ...` gets all outputs of the model by name, and all
    arrays of the evaluation file but the inputs, and returns one number."""
    better: Literal["higher", "lower"] = "higher"
    """Which way is better."""


class RawEvaluation(Raw):
    """Labelled samples, disjoint from training and calibration, and the metric."""

    path: str
    """A .npz file with one array per model input, named like it, and the labels."""
    metric: MetricName
    """What is measured; docs/specs.md says what each metric reads."""
    own: RawOwnMetric | None = None
    """For `metric: own`: the function that measures."""
    labels: dict[str, str] = {}
    """What the metric needs -> array name in the file, e.g. `{label: digit}`."""
    outputs: dict[str, str] = {}
    """What the metric reads -> output name of the model, e.g. `{scores: logits}`."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """How many rows are used, from the start; all where it is not given."""


class RawConfidence(Raw):
    """Labelled samples that fit the temperature and certify the threshold of `fallback`."""

    path: str
    """A .npz file with one array per model input, named like it, and the labels."""
    label: str = "label"
    """Name of the array with the class of each row."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """How many rows are used, from the start; all where it is not given."""


class RawData(Raw):
    """The data that a build needs: nothing where the model stays in floating point."""

    calibration: RawCalibration | None = None
    evaluation: RawEvaluation | None = None
    confidence: RawConfidence | None = None
    """For `fallback`; the evaluation data where it is not given."""


class RawQuantization(Raw):
    """How weights and activations are rounded, for `precision: int8`."""

    weights: WeightType = "int8"
    """int8 or int4: bits of the stored weights."""
    activations: ActivationType = "int8"
    """int8 or int16: with stored ranges; dynamic: 8 bits, ranges found at run time; none: float."""
    symmetric: bool | None = None
    """Zero points of 0: of stored ranges, else of weights. By the target where it is not given."""
    method: CalibrationMethod = "minmax"
    """How ranges are chosen: minmax, percentile, entropy (KL divergence), or mse."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """The share of values, in percent, inside the range; for `method: percentile`."""
    per_channel: bool = True
    """One scale per output channel of the weights."""
    repair: list[Repair] | None = None
    """Against the loss: equalize, smooth, bias, round; docs/optimizing.md has the default."""
    exclude: list[str] = []
    """Names of nodes (globs) that stay in floating point."""
    keep_float: Literal["none", "auto"] | Annotated[float, Field(gt=0, lt=1)] = "none"
    """auto: also the layers that int8 harms most, found on the calibration data, until no output is
    off by more than 0.05 of its norm; or another number in place of that."""


class RawTensorRt(Raw):
    """How TensorRT builds the plan; only targets with TensorRT read it."""

    compile_at: Place | None = None
    """Where: on a builder with the GPU, while the image is built, on the device. By the target."""
    workspace_mb: Annotated[int, Field(ge=0)] = 0
    """Most scratch memory of a layer in MiB; 0 leaves it to TensorRT."""
    dla_core: Annotated[int, Field(ge=0)] | None = None
    """Run layers on this DLA core, and on the GPU what it cannot; fp16 and batch 1 only."""
    version_compatible: bool = False
    """The plan also loads in later releases of TensorRT; it may be slower."""
    hardware_compatibility: HardwareCompatibility = "none"
    """Which other GPUs load the plan: none, same_compute_capability or ampere_plus."""


class RawAuto(Raw):
    """Search for the best variant that keeps the gates; `optimize: auto` has the defaults."""

    objective: SearchObjective = "size"
    """What is to be small: size (bytes of the model), latency or energy (of one request, each
    measured beside fp32; energy where this machine has counters of it)."""
    budget_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which the best so far is taken. What was tried is not tried again."""


class RawOptimize(Raw):
    """What may be done to the model before it is compiled, and while it is."""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, given: Any) -> Any:
        return {"auto": {}} if given == "auto" else given

    simplify: bool = True
    """Fold constants and remove what does nothing."""
    precision: Precision = "fp32"
    """fp32, fp16, or int8: quantized as `quantization` says, by default to 8 bits."""
    quantization: RawQuantization = Field(default_factory=RawQuantization)
    tensorrt: RawTensorRt = Field(default_factory=RawTensorRt)
    auto: RawAuto | None = None
    """Find precision and quantization by trying, in place of naming them."""
    train: RawTrain | None = None
    distill: RawDistill | None = None
    prune: RawPrune | None = None


class RawMaxDifference(Raw):
    """How far answers may lie from the source's, in place of the limits of the precision."""

    relative: Annotated[float, Field(ge=0)] | None = None
    """Norm of the difference over the norm of the source's output."""
    columns: Annotated[float, Field(ge=0)] | None = None
    """The same for columns of like magnitude, over how the source varies in them."""
    labels: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the labels, integers and words that may be others."""
    reason: Annotated[str, Field(min_length=1)]
    """Why that is right for this model; the report shows it."""


class RawGates(Raw):
    """Limits that a built model must keep; one that fails is not published."""

    max_accuracy_drop: Annotated[float, Field(ge=0)] | None = None
    """The metric may fall by this much below the source's in fp32, in the metric's own unit."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """How certain it must be that the score falls no further than `max_accuracy_drop`: the upper
    end of the interval of the drop is held to it, not the drop that was seen. 0.95 is usual."""
    max_size_mb: Annotated[float, Field(gt=0)] | None = None
    """Size of the compiled model's files, in 10^6 bytes."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Median latency of one request of batch 1 on the building machine."""
    max_difference: RawMaxDifference | None = None
    """Limits for the difference from the source that replace the default ones."""


class RawFallback(Raw):
    """When the edge's answer is sure; what is not sure goes to a model in the cloud."""

    policy: PolicyName = "max_probability"
    """How sure is measured: max_probability, margin, entropy, energy, or max_score (detectors)."""
    output: str = ""
    """The model's output that it is measured on; that of the evaluation where it is not given."""
    activation: Activation = "logits"
    """What that output holds: logits or probabilities."""
    layout: ScoreLayout | None = None
    """scores: all values are scores; ultralytics: those of [n, 4 + classes, k] without the boxes,
    for max_score. That of the evaluation's metric where it is not given."""
    max_error: Annotated[float, Field(gt=0, lt=1)] | None = None
    """At most this share of the sure answers may be wrong; the threshold follows from it."""
    confidence_level: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """How certain it is that `max_error` holds."""
    threshold: float | None = None
    """A fixed threshold in place of `max_error`; it promises nothing."""
    cloud: str = ""
    """The cloud's model that unsure rows go to; the same name where it is not given."""
    cloud_latency_ms: Annotated[float, Field(ge=0)] | None = None
    """What asking the cloud takes, over your link; for the report's trade-off."""
    cloud_cost: Annotated[float, Field(ge=0)] = 1.0
    """What one row costs there, in any unit; for the report's trade-off."""


class RawPreprocess(Raw):
    """How an image becomes the model's input: pixel * scale, then (x - mean) / std."""

    input: str
    """Name of the model's input."""
    size: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]
    """[height, width]"""
    color: Literal["gray", "rgb", "bgr"] = "rgb"
    """Channels that the model takes, in their order."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Whether channels come before height and width, or last."""
    scale: float = 1 / 255
    """Factor of each pixel (0..255), before mean and std."""
    mean: list[float] = []
    """Subtracted from each channel, after the scale; one figure per channel."""
    std: list[float] = []
    """Divides each channel, after the mean; one figure per channel."""
    resize: Literal["bilinear", "nearest", "bicubic"] = "bilinear"
    """How pixels are interpolated."""
    fit: Literal["stretch", "letterbox", "crop"] = "stretch"
    """What becomes of another aspect ratio: distorted, padded, or cut."""
    place: Literal["outside", "graph"] = "outside"
    """graph: the model itself does this, and takes uint8 pixels; outside: whoever calls it does."""
    source: (
        Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)] | None
    ) = None
    """With `place: graph`: [height, width] of all images that are sent, where it is always the
    same; as `size`, they are resized before they are sent."""


class RawServing(Overlay):
    """How the model is served; fields of Triton's ModelConfig win over what is decided."""

    objective: Objective = "latency"
    """latency: one request uses all cores; throughput: one instance per core."""
    max_batch_size: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Largest batch; chosen by what was proven where it is not given; 0: no batching."""
    labels: dict[str, str] = Field(default={})
    """Output name -> text file with one label a line."""


class RawCalibrationPart(RawCalibration):
    """What is different about the calibration; the rest is as for other targets."""

    path: str = Field(default_factory=str)
    """A .npz file with one array per model input, named like it."""


class RawEvaluationPart(RawEvaluation):
    """What is different about the evaluation; the rest is as for other targets."""

    path: str = Field(default_factory=str)
    """A .npz file with one array per model input, named like it, and the labels."""
    metric: MetricName = Field(default_factory=lambda: "accuracy")
    """What is measured; docs/specs.md says what each metric reads."""


class RawConfidencePart(RawConfidence):
    """What is different about the samples for `fallback`; the rest is as for other targets."""

    path: str = Field(default_factory=str)
    """A .npz file with one array per model input, named like it, and the labels."""


class RawPreprocessPart(RawPreprocess):
    """What is different about the image; the rest is as for other targets."""

    input: str = Field(default_factory=str)
    """Name of the model's input."""
    size: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [1, 1]
    )
    """[height, width]"""


class RawDataPart(Raw):
    """What is different about the data."""

    calibration: RawCalibrationPart | None = None
    evaluation: RawEvaluationPart | None = None
    confidence: RawConfidencePart | None = None


class RawOverride(Raw):
    """What is different on one target. Only what a user wrote counts: no default here is used."""

    sizes: Sizes = {}
    """Open dimension -> the size that is really used there."""
    data: RawDataPart | None = None
    optimize: RawOptimize | None = None
    gates: RawGates | None = None
    release: RawRelease | None = None
    fallback: RawFallback | None = None
    preprocess: RawPreprocessPart | None = None
    postprocess: RawPostprocess | None = None
    signal: RawSignal | None = None
    serving: RawServing | None = None


class Named(Raw):
    """What specs of every kind begin with."""

    name: Annotated[str, Field(json_schema_extra={"pattern": f"^{_NAME.pattern}$"})]
    """Name in the repository and in requests."""
    version: Annotated[str, Field(json_schema_extra={"pattern": f"^{_VERSION.pattern}$"})]
    """Semantic version; each part at most 999."""
    targets: Annotated[list[str], Field(min_length=1)]
    """Devices to build for; see `repo-builder targets list`."""

    @field_validator("name")
    @classmethod
    def _valid_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"'{value}' is no model name; use letters, digits, '_', '-' and '.', at most 128"
            )
        return value

    @field_validator("version", mode="before")
    @classmethod
    def _valid_version(cls, value: Any) -> Any:
        if isinstance(value, (int, float)):
            raise ValueError(f"{value} is no semantic version; write three parts, such as 1.0.0")
        if isinstance(value, str) and not _VERSION.fullmatch(value):
            raise ValueError(
                f"'{value}' is no semantic version of parts 0..999; write one such as 1.0.0"
            )
        if value == "0.0.0":
            raise ValueError("0.0.0 would be Triton's version 0, which it ignores; write 0.0.1")
        return value


class RawSpec(Named):
    """A spec file: one model, and the devices it is built for."""

    kind: Literal["model"] = "model"
    """A model, or a pipeline of models."""
    source: RawSource
    sizes: Sizes = {}
    """Open dimension -> the size that is really used; or input -> its sizes, null for the batch."""
    data: RawData = Field(default_factory=RawData)
    optimize: RawOptimize = Field(default_factory=RawOptimize)
    gates: RawGates = Field(default_factory=RawGates)
    release: RawRelease = Field(default_factory=RawRelease)
    fallback: RawFallback | None = None
    preprocess: RawPreprocess | None = None
    postprocess: RawPostprocess | None = None
    signal: RawSignal | None = None
    serving: RawServing = Field(default_factory=RawServing)
    family: RawFamily | None = None
    """Nets of other sizes that `repo-builder family` compares with this one."""
    overrides: dict[str, RawOverride] = {}
    """Target -> what is different there."""
