"""The resolved spec: one model for one target, frozen, with every default filled in.

The raw shape of the YAML file is another type (`raw.py`), so that nothing downstream ever asks
whether a value was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Union

from repo_builder.base.artifact import Tensor
from repo_builder.base.digest import Json
from repo_builder.base.document import Document
from repo_builder.client.models.policies import Activation, PolicyName, ScoreLayout
from repo_builder.spec.ends import Postprocess, Preprocess, Signal
from repo_builder.spec.pruning import Pruning
from repo_builder.spec.released import Released
from repo_builder.spec.search import Auto
from repo_builder.spec.training import Distillation, Training
from repo_builder.targets.types import ActivationType, CalibrationMethod, Repair, WeightType

if TYPE_CHECKING:
    from repo_builder.spec.tuning import Tuning
    from repo_builder.targets.types import HardwareCompatibility

Precision = Literal["fp32", "fp16", "int8"]
Objective = Literal["latency", "throughput"]
Place = Literal["builder", "image", "device"]
StageKind = Literal["model", "preprocess", "nms", "top_k"]
Part = Literal["selection", "confirmation"]
"""Half of the evaluation's rows: what chooses among many variants, and what chose none."""
MetricName = Literal[
    "accuracy",
    "top5",
    "f1",
    "roc_auc",
    "auroc",
    "map50",
    "map50_ultralytics",
    "miou",
    "mse",
    "rmse",
    "mae",
    "cer",
    "wer",
    "recall1",
    "own",
]

AUTO_ERROR = 0.05
"""The relative error that `keep_float: auto` allows: docs/optimizing.md has what that costs."""


@dataclass(frozen=True)
class Version:
    """A semantic version; every part is 0..999 so that Triton's version number is exact."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def triton(self) -> int:
        """2.5.1 -> 2005001: major * 1e6 + minor * 1e3 + patch; larger is newer."""
        return self.major * 1_000_000 + self.minor * 1_000 + self.patch

    @classmethod
    def from_triton(cls, number: int) -> Version:
        """The other way round: 2005001 -> 2.5.1."""
        return cls(number // 1_000_000, number // 1_000 % 1_000, number % 1_000)


TorchType = Literal[
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
]


@dataclass(frozen=True)
class OnnxSource:
    """A model that comes as an ONNX file, its external data beside it."""

    file: Path


@dataclass(frozen=True)
class TorchSource:
    """A PyTorch net: `function(**kwargs)` of the Python file `file` returns it.

    `weights` is its state as safetensors, None for what the function gives it. `inputs` are in the
    order in which the net takes them, their shapes with every size, so that of `batch` rows too:
    with `batch` dimension 0 of all inputs and outputs may have any other.
    """

    file: Path
    function: str
    kwargs: Mapping[str, Json] = field(hash=False)
    weights: Path | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    batch: bool


Source = Union[OnnxSource, TorchSource]


@dataclass(frozen=True)
class Calibration:
    """Unlabelled samples (.npz with one array per model input) that fix quantization ranges.

    `samples` rows from the start are used; fewer rows than that is an error.
    """

    path: Path
    samples: int


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's: `function(outputs, arrays)` in `file`, which gives one number."""

    file: Path
    function: str
    higher_is_better: bool


@dataclass(frozen=True)
class Evaluation:
    """Labelled samples and the metric that judges a model on them.

    `labels` maps what the metric needs (`label`; `boxes` and `classes`; `anomaly`) to array names
    in the file; `outputs` maps what the metric reads to the model's output names. `part` None: all
    rows.
    """

    path: Path
    metric: MetricName
    own: OwnMetric | None = field(default=None, kw_only=True)
    labels: Mapping[str, str]
    outputs: Mapping[str, str]
    samples: int | None = None
    part: Part | None = None


@dataclass(frozen=True)
class Quantization:
    """How weights and activations are rounded, for precision int8.

    `symmetric`: zero points are 0, of activations where these are rounded with stored ranges, else
    of weights. `method` chooses those ranges. `repair` is what is done against the loss, see
    docs/optimizing.md. `exclude` names nodes (globs) that stay in floating point.

    `max_error` None: no others do. Else the layers that int8 harms most do, as many as it takes for
    a relative error of the outputs up to that, on the calibration data.
    """

    method: CalibrationMethod = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    exclude: tuple[str, ...] = ()
    max_error: float | None = None
    weights: WeightType = "int8"
    activations: ActivationType = "int8"
    symmetric: bool = False
    repair: tuple[Repair, ...] = ("equalize", "smooth")

    @property
    def stored(self) -> bool:
        """Whether activations have stored ranges, for which calibration data is needed."""
        return self.activations in ("int8", "int16")

    @property
    def packed(self) -> bool:
        """Whether some weights are stored in integers for products in floating point."""
        return not self.stored or self.max_error is not None

    @property
    def name(self) -> str:
        """The scheme in words: `int8`, `int4 weights`, `int8 weights, int16 activations`."""
        if self.activations == "int8" == self.weights:
            return "int8"
        if self.activations == "none":
            return f"{self.weights} weights"
        return f"{self.weights} weights, {self.activations} activations"


@dataclass(frozen=True)
class TensorRt:
    """How a TensorRT plan is built; see `repo_builder.trt.request`.

    `compile_at` says where, in place of what the target says.
    """

    workspace_mb: int = 0
    dla_core: int | None = None
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    compile_at: Place | None = None


@dataclass(frozen=True)
class Optimize:
    """What may be done to the model before it is compiled, and while it is.

    With `auto`, precision and quantization are found by trying.
    """

    simplify: bool = True
    precision: Precision = "fp32"
    quantization: Quantization = field(default_factory=Quantization)
    tensorrt: TensorRt = field(default_factory=TensorRt)
    auto: Auto | None = None
    train: Training | None = None
    distill: Distillation | None = None
    prune: Pruning | None = None

    @property
    def scheme(self) -> str:
        """The precision in words; what is quantized has the name of its scheme."""
        return self.quantization.name if self.precision == "int8" else self.precision


@dataclass(frozen=True)
class MaxDifference:
    """Limits in place of the default ones for how far answers may lie from the source's.

    `limits` maps `relative`, `columns` and `labels` to the largest that passes: see docs/proof.md.
    The report shows the `reason`.
    """

    limits: Mapping[str, float]
    reason: str


@dataclass(frozen=True)
class Gates:
    """Limits that a built model must keep; None means no limit.

    `max_accuracy_drop` is in the metric's own unit (0.005 is half a point of accuracy), against
    the source in fp32. With a `confidence` the upper end of the drop's interval is held to it.
    `max_latency_ms` is the median of one request on the building machine.
    `max_difference` None means the default limits of the precision.
    """

    max_accuracy_drop: float | None = None
    confidence: float | None = None
    max_size_mb: float | None = None
    max_latency_ms: float | None = None
    max_difference: MaxDifference | None = None


@dataclass(frozen=True)
class Fallback:
    """When the edge's answer is sure, found by measuring; what is not goes to a model in the cloud.

    Either `max_error`, the share of wrong answers among the sure ones that `confidence_level` holds
    for, or a fixed `threshold`, is None. `data` is labelled and held out; its array `label` has the
    classes ("": it needs none). `cloud` is the model that is asked, "" where it has the same name;
    `cloud_source` is its source where its spec was read too. `cloud_latency_ms` and `cloud_cost`
    are what one row takes there, as the user says.
    """

    policy: PolicyName
    output: str
    activation: Activation
    data: Path
    label: str = ""
    samples: int | None = None
    max_error: float | None = None
    threshold: float | None = None
    confidence_level: float = 0.95
    cloud: str = ""
    cloud_source: Source | None = None
    cloud_latency_ms: float | None = None
    cloud_cost: float = 1.0
    layout: ScoreLayout = "scores"


@dataclass(frozen=True)
class Serving:
    """How the model is served; `config` holds fields of Triton's ModelConfig by Triton's names.

    `max_batch_size` None means: chosen from what was proven by running.
    """

    objective: Objective = "latency"
    max_batch_size: int | None = None
    labels: Mapping[str, Path] = field(default_factory=dict)
    config: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """One model for one target: everything a build needs to know, nothing left to default.

    `teacher` is the spec of the model that `optimize.distill` names, where that is no file. `near`
    is the version that devices have, which the weights are brought near.

    `tuning` is how `tune` found it is served best; a build uses it where model and machine are the
    same.

    `sizes` maps names of open dimensions to the size that is really used, and inputs to the sizes
    of all their dimensions, None where nothing is said.
    """

    name: str
    version: Version
    target: str
    source: Source
    file: Path
    calibration: Calibration | None
    evaluation: Evaluation | None
    optimize: Optimize
    gates: Gates
    serving: Serving
    preprocess: Preprocess | None
    fallback: Fallback | None = None
    postprocess: Postprocess | None = None
    signal: Signal | None = None
    teacher: Spec | None = None
    near: OnnxSource | Released | None = None
    sizes: Mapping[str, int | tuple[int | None, ...]] = field(default_factory=dict)
    tuning: Tuning | None = None

    @property
    def id(self) -> str:
        """The identifier that users select by: `digits@cpu`."""
        return f"{self.name}@{self.target}"


@dataclass(frozen=True)
class Stage:
    """A step of a pipeline.

    `of` is the model that a `model` stage runs and whose input a `preprocess` stage makes; "" for
    others. `params` are those of its kind, with labels read. `inputs` maps an input of the stage
    to its source: (stage, output), or ("", input of the pipeline).
    """

    name: str
    kind: StageKind
    of: str
    params: Mapping[str, Json]
    inputs: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Pipeline:
    """One pipeline for one target: stages by name, and which of their tensors are given out.

    `sample` maps each input to a file to run the pipeline on. `capture_ms` and `transfer_ms` are
    given by the user, as a build cannot measure them; `latency_budget_ms` maps `total`
    and stages of a request to their limits, none for {}; `budget_rate` is the requests a second
    at which they hold too.
    `document` tells the line of every value.
    """

    name: str
    version: Version
    target: str
    file: Path
    inputs: Sequence[str]
    stages: Mapping[str, Stage]
    outputs: Mapping[str, tuple[str, str]]
    sample: Mapping[str, Path]
    latency_budget_ms: Mapping[str, float]
    budget_rate: float | None
    capture_ms: float
    transfer_ms: float
    document: Document = field(compare=False, repr=False)

    @property
    def id(self) -> str:
        """The identifier that users select by: `read-digit@cpu`."""
        return f"{self.name}@{self.target}"

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it needs, each once."""
        return tuple(dict.fromkeys(stage.of for stage in self.stages.values() if stage.of))

    def part(self, stage: str) -> str:
        """The name of a stage's own model in the repository: `read-digit.decode`."""
        return f"{self.name}.{stage}"
