"""Triton's three schedulers as types: dynamic batching, sequence batching, ensembles."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from repo_builder.spec.protocol import DataType, Int32, Int64, Message, Uint32, Uint64, one_of


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
        one_of(self, "zero_data", "data_file")
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
        one_of(self, "direct", "oldest")
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
