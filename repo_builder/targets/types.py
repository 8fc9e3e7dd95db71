"""The shape of a target: what is true of one device, each figure with where it comes from.

Units are in the names: `_mb` and `_kb` are powers of 1024 as makers of memory use them, `_gb_s` is
1e9 bytes a second, `_tops` is 1e12 operations a second where a multiply-accumulate is two.
None is "unknown"; a `note` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Runtime = Literal["onnxruntime", "openvino", "tensorrt", "qnn", "vela", "tflite-micro"]
Precision = Literal["fp32", "fp16", "bf16", "fp8", "int16", "int8", "int4"]
Architecture = Literal["amd64", "arm64", "cortex-m"]
Place = Literal["builder", "image", "device"]
Scheme = Literal["u8s8", "s8s8"]
WeightType = Literal["int8", "int4"]
ActivationType = Literal["int8", "int16", "dynamic", "none"]
"""`dynamic`: rounded to 8 bits with ranges found while the model runs; `none`: floating point."""
CalibrationMethod = Literal["minmax", "percentile", "entropy", "mse"]
Repair = Literal["equalize", "smooth", "bias", "round"]
PowerTool = Literal["nvpmodel", "nvidia-smi"]
HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]
"""Which GPUs beside the one that built it a TensorRT plan also fits."""

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Field(strict=False)]
Some = Annotated[tuple[T, ...], Field(strict=False, min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]

_BACKENDS: dict[Runtime, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "qnn": "python",
}


class Shape(BaseModel):
    """Base of everything in a target file: frozen, unknown keys are errors, figures are finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )


class Source(Shape):
    """A document that figures come from."""

    title: Text
    url: str = ""


class Fact(Shape):
    """Figures that come from one place.

    `source` is a key of `Target.sources`; `guide` is what the project's guide says where it says
    something else; `note` is what a reader must know, above all why a figure is unknown.
    """

    source: str = ""
    guide: str = ""
    note: str = ""


class Cpu(Fact):
    """The general-purpose cores; `cores` 0 means those of the machine that builds.

    `vnni`: all machines of this target have VNNI, so that int8 weights may use all 8 bits.
    """

    title: Text
    cores: Natural
    vnni: bool = False
    clock_mhz: Count | None = None


class Memory(Fact):
    """Where weights and activations live; `size_mb` 0 means that of the machine that builds.

    On a microcontroller this is its RAM, a fraction of a megabyte, and weights lie in flash.
    """

    title: Text
    size_mb: NotNegative | None
    bandwidth_gb_s: Positive | None = None


class Compute(Fact):
    """Peak rate of one unit of an engine at the engine's `clock_mhz`."""

    precision: Precision
    dense_tops: Positive | None
    sparse_tops: Positive | None = None


class Engine(Fact):
    """Something that executes layers: CPU cores, a GPU, an NPU, a DLA.

    The first engine of a target is the one that its runtime uses by default. `count` is how many
    of them there are (0: one per CPU core); `slices` is how many parts of each a power mode may
    switch off (TPCs of a GPU); writing Hz into `clock_file` caps its clock. `ops` are the ONNX
    operators that it executes; empty: whatever the runtime can lower.
    """

    name: Text
    title: Text
    count: Natural = 1
    slices: Count | None = None
    clock_mhz: Count | None = None
    clock_file: str = ""
    sram_kb: Count | None = None
    compute: Many[Compute] = ()
    ops: Many[str] = ()


class PowerMode(Fact):
    """A setting of clocks and power that the device offers.

    `id` is the maker's number for it (nvpmodel's); `watts` the module's budget. `clocks_mhz` maps
    engine names to their highest clock in this mode (0: off) and `slices` to the parts left on;
    `memory_gb_s` is the bandwidth where the mode lowers it.
    """

    name: Text
    watts: Positive | None
    id: Natural | None = None
    cpu_cores: Count | None = None
    cpu_mhz: Count | None = None
    clocks_mhz: Mapping[str, Natural] = {}
    slices: Mapping[str, Count] = {}
    memory_gb_s: Positive | None = None


class Release(Fact):
    """Versions that belong together: `JetPack 6.2` -> {"tensorrt": "10.3", ...}."""

    name: Text
    components: Mapping[str, str]


class Image(Fact):
    """A container image for this device; `use` is `serve` (has Triton), `base` or `build`."""

    use: Literal["serve", "base", "build"]
    reference: Text


class Suit(Fact):
    """Architectures of nets that suit a device, and `why`; `guide` names those of the guide."""

    nets: Some[Text]
    why: Text


class Assumptions(Fact):
    """What an estimate assumes of this device, since no maker states it.

    `efficiency` is the share of peak compute that real layers reach, `depthwise_efficiency` that
    of depthwise convolutions, `bandwidth_efficiency` the share of peak bandwidth; `layer_us` is
    the fixed cost of one layer at full clock. `runtime_mb` is what the runtime itself takes,
    `reserved_mb` what the system keeps, `idle_watts` what flows without work.
    """

    efficiency: Share
    depthwise_efficiency: Share
    bandwidth_efficiency: Share = 0.7
    layer_us: NotNegative = 0.0
    runtime_mb: NotNegative = 0.0
    reserved_mb: NotNegative = 0.0
    idle_watts: Positive | None = None


class OpenVino(Fact):
    """OpenVINO's name of the device, and the last release that knows it ("": current).

    `opset` is the newest operation set which that release reads; None: whatever is current.
    """

    device: Text
    last_release: str = ""
    opset: Count | None = None


class TensorRt(Fact):
    """What a TensorRT plan is tied to, the DLA cores it may use, whether it may fit other GPUs."""

    compute_capability: Annotated[str, Field(pattern=r"^\d+\.\d+$")]
    dla_cores: Natural = 0
    hardware_compatibility: bool = True


class Qnn(Fact):
    """What the QNN HTP compiler is told of the SoC; `soc_model` 0 lets it choose."""

    htp_arch: Count
    soc_model: Natural = 0


class Vela(Fact):
    """What Vela is told of the NPU: `--accelerator-config`, `--system-config`, `--memory-mode`."""

    accelerator: Annotated[str, Field(pattern=r"^ethos-u\d+-\d+$")]
    system_config: Text
    memory_mode: Text


class Micro(Fact):
    """What a firmware has room for: flash holds code and weights, RAM the tensor arena."""

    flash_kb: Count
    ram_kb: Count


class Target(Shape):
    """One device, as far as it decides what is built for it.

    `runtime` is the toolchain that compiles and the runtime that executes. `precisions` are those
    a spec may ask for. `int8` is the scheme of the step `quantize`: activations with a zero point
    (`u8s8`; TFLite stores them shifted by 128), or signed and symmetric (`s8s8`). `compile_at` says
    where the last compilation runs: with the builder, in an image made on such a machine, or on
    the device at first start. `power_tool` is the maker's command that sets a power mode. `suits`
    says which architectures to begin with.
    """

    name: str
    title: Text
    runtime: Runtime
    architectures: Some[Architecture]
    precisions: Some[Precision]
    sources: Mapping[str, Source]
    cpu: Cpu
    memory: Memory
    int8: Scheme = "u8s8"
    compile_at: Place = "builder"
    engines: Many[Engine] = ()
    power_tool: PowerTool | None = None
    power_modes: Many[PowerMode] = ()
    releases: Many[Release] = ()
    images: Many[Image] = ()
    assumptions: Assumptions | None = None
    suits: Many[Suit] = ()
    openvino: OpenVino | None = None
    tensorrt: TensorRt | None = None
    qnn: Qnn | None = None
    vela: Vela | None = None
    micro: Micro | None = None
    notes: Many[str] = ()

    @property
    def cores(self) -> int:
        """Cores that instances and threads are planned for; 0: those of the building machine."""
        return self.cpu.cores

    def free_mb(self, building_machine_mb: float | None = None) -> float | None:
        """What the system leaves of the memory; None where its size is not known.

        Where it is that of the machine that builds, pass its size.
        """
        size = building_machine_mb if self.memory.size_mb == 0 else self.memory.size_mb
        reserved = self.assumptions.reserved_mb if self.assumptions else 0.0
        return None if size is None else max(size - reserved, 0.0)

    @property
    def on_cpu(self) -> bool:
        """Whether its models run on its processor, in ONNX Runtime or OpenVINO."""
        return self.runtime == "onnxruntime" or (
            self.openvino is not None and self.openvino.device == "CPU"
        )

    @property
    def backend(self) -> str | None:
        """Triton's backend for this runtime; None where the device runs no Triton."""
        return _BACKENDS.get(self.runtime)
