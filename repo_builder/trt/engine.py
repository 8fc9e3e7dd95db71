"""Builds a plan with TensorRT's Python API, on the machine whose GPU it is for.

Precision lies in the ONNX model: networks are strongly typed, which is TensorRT 11's only way and
one of 10's. The exception is DLA on TensorRT 10, which takes its precision from a builder flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base.errors import MissingExtra, ModelError, Problem, StepError
from repo_builder.trt.request import Request


@dataclass(frozen=True)
class Progress:
    """A phase of the builder: `done` of `steps`; `parent` is the phase it is part of, or ""."""

    phase: str
    parent: str
    done: int
    steps: int


@dataclass(frozen=True)
class Built:
    """A plan, and what TensorRT learnt about the speed of kernels while building it."""

    plan: bytes
    timing_cache: bytes


def build(
    model: Path,
    request: Request,
    *,
    timing_cache: bytes = b"",
    report: Callable[[Progress], None] = lambda _: None,
) -> Built:
    """Build the plan that `request` asks for from an ONNX file.

    `report` is called from TensorRT's threads. MissingExtra without TensorRT; ModelError where
    its parser refuses the model, naming all nodes; StepError where the device or this TensorRT
    cannot do what is asked, or the build fails.
    """
    trt = _import()
    major = int(trt.__version__.split(".")[0])
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    weakly_typed = request.dla_core is not None and major == 10
    flags = 0
    if major == 10 and not weakly_typed:
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise ModelError("TensorRT cannot read the model", _errors(parser))
    config = builder.create_builder_config()
    _configure(trt, builder, config, request)
    if request.dla_core is not None:
        _use_dla(trt, builder, config, request)
        if weakly_typed:
            config.set_flag(trt.BuilderFlag.FP16)
    cache = config.create_timing_cache(timing_cache)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        # Made by another TensorRT or GPU: worth nothing here.
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    config.progress_monitor = _monitor(trt, report)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StepError("TensorRT could not build the plan; its reasons are in the log")
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def version() -> str:
    """The version of the installed TensorRT; MissingExtra where there is none."""
    return str(_import().__version__)


def dla_supported(tensorrt: str) -> bool:
    """Whether this TensorRT has DLA: up to 10.7, and again from 11.4.1 ("Working with DLA")."""
    parts = tuple(int(part) for part in tensorrt.split(".")[:3] if part.isdigit())
    return parts < (10, 8) or parts >= (11, 4, 1)


def _import() -> Any:
    try:
        import tensorrt
    except ImportError:
        # JetPack brings this module. NVIDIA's images may bring the libraries alone; then the same
        # bindings are a wheel of this name, whose import fails too where there are no libraries.
        try:
            import tensorrt_bindings as tensorrt
        except ImportError as failure:
            raise MissingExtra("tensorrt", "building a TensorRT plan") from failure
    return tensorrt


def _configure(trt: Any, builder: Any, config: Any, request: Request) -> None:
    if request.workspace_mb:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mb << 20)
    if request.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        # The lean runtime would add to every plan what the server has anyway.
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
    if request.hardware != "none":
        level = getattr(trt.HardwareCompatibilityLevel, request.hardware.upper(), None)
        if level is None:
            raise StepError(
                f"TensorRT {trt.__version__} has no hardware level '{request.hardware}'"
            )
        config.hardware_compatibility_level = level
    if request.profiles:
        profile = builder.create_optimization_profile()
        for name, shapes in request.profiles.items():
            profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
        if config.add_optimization_profile(profile) < 0:
            raise StepError("TensorRT refuses the profile: min <= opt <= max must hold everywhere")


def _use_dla(trt: Any, builder: Any, config: Any, request: Request) -> None:
    if not dla_supported(trt.__version__):
        raise StepError(
            f"TensorRT {trt.__version__} has no DLA: 10.7 was the last before 11.4.1; "
            "build without `dla_core`"
        )
    core = request.dla_core
    if core is None or core >= builder.num_DLA_cores:
        raise StepError(f"no DLA core {core} here: this machine has {builder.num_DLA_cores}")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _errors(parser: Any) -> list[Problem]:
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    return [
        Problem(error.desc(), field=f"{error.node_operator()} node '{error.node_name()}'")
        for error in errors
    ]


def _monitor(trt: Any, report: Callable[[Progress], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.phases: dict[str, tuple[str, int]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = parent_phase or "", num_steps
            report(Progress(phase_name, parent_phase or "", 0, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            parent, steps = self.phases.get(phase_name, ("", step + 1))
            report(Progress(phase_name, parent, step + 1, steps))
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            parent, steps = self.phases.pop(phase_name, ("", 1))
            report(Progress(phase_name, parent, steps, steps))

    return Monitor()
