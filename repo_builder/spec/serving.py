"""Triton's ModelConfig as types: all that a spec's `serving:` may say, by Triton's own names.

Follows `protobuf/model_config.proto` of triton-inference-server/common; a test compares the two
field by field. Defaults are the protocol's, so a field at its default says nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DataType = Literal[
    "TYPE_INVALID",
    "TYPE_BOOL",
    "TYPE_UINT8",
    "TYPE_UINT16",
    "TYPE_UINT32",
    "TYPE_UINT64",
    "TYPE_INT8",
    "TYPE_INT16",
    "TYPE_INT32",
    "TYPE_INT64",
    "TYPE_FP16",
    "TYPE_FP32",
    "TYPE_FP64",
    "TYPE_STRING",
    "TYPE_BF16",
]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Uint32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
Uint64 = Annotated[int, Field(ge=0, le=2**64 - 1)]


class Message(BaseModel):
    """Base of all types here: unknown keys are errors, "3" is no number."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,
    )


def _one_of(message: Message, *names: str) -> None:
    given = [name for name in names if getattr(message, name) is not None]
    if len(given) > 1:
        raise ValueError(f"only one of {', '.join(names)} may be given, not {' and '.join(given)}")


class Resource(Message):
    """Something that the rate limiter counts."""

    name: str = ""
    global_: Annotated[bool, Field(alias="global")] = False
    """Shared by all devices."""
    count: Uint32 = 0


class RateLimiter(Message):
    """When an instance may run; the server heeds it only with `--rate-limit`."""

    resources: list[Resource] = []
    priority: Uint32 = 0


class SecondaryDevice(Message):
    """A DLA core that TensorRT may use."""

    kind: Literal["KIND_NVDLA"] = "KIND_NVDLA"
    device_id: Int64 = 0


class InstanceGroup(Message):
    """Copies of the model that execute at the same time."""

    name: str = ""
    kind: Literal["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"] = "KIND_AUTO"
    count: Int32 = 0
    rate_limiter: RateLimiter | None = None
    gpus: list[Int32] = []
    secondary_devices: list[SecondaryDevice] = []
    profile: list[str] = []
    """TensorRT optimization profiles."""
    passive: bool = False
    host_policy: str = ""


class Reshape(Message):
    """The shape that the model itself has, where it differs from `dims`."""

    shape: list[Int64] = []


class Input(Message):
    """An input; in a spec `name` says which, and what is left out is found in the model."""

    name: str = ""
    data_type: DataType = "TYPE_INVALID"
    format: Literal["FORMAT_NONE", "FORMAT_NHWC", "FORMAT_NCHW"] = "FORMAT_NONE"
    dims: list[Int64] = []
    """The shape without the batch dimension, where max_batch_size is above 0."""
    reshape: Reshape | None = None
    is_shape_tensor: bool = False
    allow_ragged_batch: bool = False
    optional: bool = False
    is_non_linear_format_io: bool = False


class Output(Message):
    """An output; in a spec `name` says which, and what is left out is found in the model."""

    name: str = ""
    data_type: DataType = "TYPE_INVALID"
    dims: list[Int64] = []
    """The shape without the batch dimension, where max_batch_size is above 0."""
    reshape: Reshape | None = None
    label_filename: str = ""
    """One label a line; relative to the model's folder."""
    is_shape_tensor: bool = False
    is_non_linear_format_io: bool = False


class BatchInput(Message):
    """An input that Triton makes from a batch, for models that take ragged batches."""

    kind: Literal[
        "BATCH_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT",
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
        "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE",
        "BATCH_ITEM_SHAPE",
        "BATCH_ITEM_SHAPE_FLATTEN",
    ] = "BATCH_ELEMENT_COUNT"
    target_name: list[str] = []
    data_type: DataType = "TYPE_INVALID"
    source_input: list[str] = []


class BatchOutput(Message):
    """An output that Triton takes apart by the shapes of an input."""

    target_name: list[str] = []
    kind: Literal["BATCH_SCATTER_WITH_INPUT_SHAPE"] = "BATCH_SCATTER_WITH_INPUT_SHAPE"
    source_input: list[str] = []


class Latest(Message):
    """Serve the newest versions."""

    num_versions: Uint32 = 0


class All(Message):
    """Serve every version."""


class Specific(Message):
    """Serve these versions."""

    versions: list[Int64] = []


class VersionPolicy(Message):
    """Which version folders are served: one of latest, all, specific."""

    latest: Latest | None = None
    all: All | None = None
    specific: Specific | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> VersionPolicy:
        _one_of(self, "latest", "all", "specific")
        return self


class GraphOptimization(Message):
    """How far the backend rewrites the graph; the meaning of `level` is the backend's."""

    level: Int32 = 0


class Shape(Message):
    """A shape in a CUDA graph's specification."""

    dim: list[Int64] = []


class LowerBound(Message):
    """The smallest batch and shapes that a CUDA graph serves."""

    batch_size: Int32 = 0
    input: dict[str, Shape] = {}


class GraphSpec(Message):
    """A batch size and shapes that a CUDA graph is captured for."""

    batch_size: Int32 = 0
    input: dict[str, Shape] = {}
    graph_lower_bound: LowerBound | None = None


class Cuda(Message):
    """CUDA settings of the TensorRT backend."""

    graphs: bool = False
    busy_wait_events: bool = False
    graph_spec: list[GraphSpec] = []
    output_copy_stream: bool = False


class Accelerator(Message):
    """An execution accelerator, such as `tensorrt` inside the onnxruntime backend."""

    name: str = ""
    parameters: dict[str, str] = {}


class ExecutionAccelerators(Message):
    """Accelerators by the kind of instance that they serve."""

    gpu_execution_accelerator: list[Accelerator] = []
    cpu_execution_accelerator: list[Accelerator] = []


class PinnedMemoryBuffer(Message):
    """Whether pinned memory is used for copies to and from a GPU."""

    enable: bool = False


class Optimization(Message):
    """How the backend executes the model."""

    graph: GraphOptimization | None = None
    priority: Literal["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"] = "PRIORITY_DEFAULT"
    cuda: Cuda | None = None
    execution_accelerators: ExecutionAccelerators | None = None
    input_pinned_memory: PinnedMemoryBuffer | None = None
    output_pinned_memory: PinnedMemoryBuffer | None = None
    gather_kernel_buffer_threshold: Uint32 = 0
    eager_batching: bool = False


class QueuePolicy(Message):
    """What happens to requests that wait."""

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    default_timeout_microseconds: Uint64 = 0
    allow_timeout_override: bool = False
    max_queue_size: Uint32 = 0


class DynamicBatching(Message):
    """Requests are joined into batches."""

    preferred_batch_size: list[Int32] = []
    max_queue_delay_microseconds: Uint64 = 0
    preserve_ordering: bool = False
    priority_levels: Uint64 = 0
    default_priority_level: Uint64 = 0
    default_queue_policy: QueuePolicy | None = None
    priority_queue_policy: dict[int, QueuePolicy] = {}


class Control(Message):
    """What a control input tells the model, and as which values."""

    kind: Literal[
        "CONTROL_SEQUENCE_START",
        "CONTROL_SEQUENCE_READY",
        "CONTROL_SEQUENCE_END",
        "CONTROL_SEQUENCE_CORRID",
    ] = "CONTROL_SEQUENCE_START"
    int32_false_true: list[Int32] = []
    fp32_false_true: list[float] = []
    bool_false_true: list[bool] = []
    data_type: DataType = "TYPE_INVALID"


class ControlInput(Message):
    """An input that Triton fills with a sequence's control values."""

    name: str = ""
    control: list[Control] = []


class InitialState(Message):
    """A state at the start of a sequence: zeros or a file under `initial_state/`."""

    data_type: DataType = "TYPE_INVALID"
    dims: list[Int64] = []
    zero_data: bool | None = None
    data_file: str | None = None
    name: str = ""

    @model_validator(mode="after")
    def _one_choice(self) -> InitialState:
        _one_of(self, "zero_data", "data_file")
        return self


class State(Message):
    """An output of one request that becomes an input of the sequence's next."""

    input_name: str = ""
    output_name: str = ""
    data_type: DataType = "TYPE_INVALID"
    dims: list[Int64] = []
    initial_state: list[InitialState] = []
    use_same_buffer_for_input_output: bool = False
    use_growable_memory: bool = False


class StrategyDirect(Message):
    """A sequence keeps its slot of the batch."""

    max_queue_delay_microseconds: Uint64 = 0
    minimum_slot_utilization: float = 0.0


class StrategyOldest(Message):
    """A batch is made from the oldest sequences."""

    max_candidate_sequences: Int32 = 0
    preferred_batch_size: list[Int32] = []
    max_queue_delay_microseconds: Uint64 = 0
    preserve_ordering: bool = False


class SequenceBatching(Message):
    """Requests of one sequence go to one instance."""

    direct: StrategyDirect | None = None
    oldest: StrategyOldest | None = None
    max_sequence_idle_microseconds: Uint64 = 0
    control_input: list[ControlInput] = []
    state: list[State] = []
    iterative_sequence: bool = False

    @model_validator(mode="after")
    def _one_choice(self) -> SequenceBatching:
        _one_of(self, "direct", "oldest")
        return self


class EnsembleStep(Message):
    """A model of an ensemble; maps go from the model's tensor to the ensemble's."""

    model_name: str = ""
    model_version: Int64 = 0
    input_map: dict[str, str] = {}
    output_map: dict[str, str] = {}
    model_namespace: str = ""


class EnsembleScheduling(Message):
    """The steps of an ensemble."""

    step: list[EnsembleStep] = []
    max_inflight_requests: Uint32 = 0


class Parameter(Message):
    """The value of a model-level parameter: always a string."""

    string_value: str = ""


class WarmupInput(Message):
    """An input of a warmup request: exactly one of zero_data, random_data, input_data_file."""

    data_type: DataType = "TYPE_INVALID"
    dims: list[Int64] = []
    zero_data: bool | None = None
    random_data: bool | None = None
    input_data_file: str | None = None

    @model_validator(mode="after")
    def _one_choice(self) -> WarmupInput:
        _one_of(self, "zero_data", "random_data", "input_data_file")
        return self


class Warmup(Message):
    """A request that a model answers before it is ready; Triton skips one of batch_size 0."""

    name: str = ""
    batch_size: Uint32 = 0
    inputs: dict[str, WarmupInput] = {}
    count: Uint32 = 0


class Operations(Message):
    """Libraries of custom operations."""

    op_library_filename: list[str] = []


class TransactionPolicy(Message):
    """Whether a request may have any number of responses."""

    decoupled: bool = False


class Agent(Message):
    """A repository agent, such as `checksum`."""

    name: str = ""
    parameters: dict[str, str] = {}


class RepositoryAgents(Message):
    """Agents that act on the model while it is loaded."""

    agents: list[Agent] = []


class ResponseCache(Message):
    """Equal requests are answered from a cache; needs `--cache-config` on the server."""

    enable: bool = False


class MetricIdentifier(Message):
    """A family of metrics."""

    family: str = ""


class HistogramOptions(Message):
    """The buckets of a histogram."""

    buckets: list[float] = []


class MetricControl(Message):
    """What is different for one family of metrics."""

    metric_identifier: MetricIdentifier | None = None
    histogram_options: HistogramOptions | None = None


class Metrics(Message):
    """What is different for the metrics of this model."""

    metric_control: list[MetricControl] = []


class Overlay(Message):
    """The fields of ModelConfig that a spec may set; they win over what the builder decides."""

    runtime: str = ""
    version_policy: VersionPolicy | None = None
    input: list[Input] = []
    output: list[Output] = []
    batch_input: list[BatchInput] = []
    batch_output: list[BatchOutput] = []
    optimization: Optimization | None = None
    dynamic_batching: DynamicBatching | None = None
    """`null` turns batching across requests off."""
    sequence_batching: SequenceBatching | None = None
    instance_group: list[InstanceGroup] = []
    default_model_filename: str = ""
    cc_model_filenames: dict[str, str] = {}
    """CUDA compute capability, such as "8.7" -> file in the version folder."""
    metric_tags: dict[str, str] = {}
    parameters: dict[str, Parameter] = {}
    """Model-level parameters, such as `intra_op_thread_count: {string_value: "2"}`."""
    model_warmup: list[Warmup] = []
    model_operations: Operations | None = None
    model_transaction_policy: TransactionPolicy | None = None
    model_repository_agents: RepositoryAgents | None = None
    response_cache: ResponseCache | None = None
    model_metrics: Metrics | None = None


class ModelConfig(Overlay):
    """All of a model's config.pbtxt."""

    name: str = ""
    platform: str = ""
    backend: str = ""
    max_batch_size: Int32 = 0
    ensemble_scheduling: EnsembleScheduling | None = None

    @model_validator(mode="after")
    def _one_scheduler(self) -> ModelConfig:
        _one_of(self, "dynamic_batching", "sequence_batching", "ensemble_scheduling")
        return self
