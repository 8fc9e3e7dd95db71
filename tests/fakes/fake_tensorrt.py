"""A stand-in for the `tensorrt` module, with the signatures of its bindings 10.3 and 11.4.

For the branches of our code only: it builds nothing, and no test with it says anything of TensorRT.
What a version does not have is missing here too.
"""

from __future__ import annotations

import enum
from types import ModuleType
from typing import Any


def module(version: str, *, dla_cores: int = 0, errors: tuple[Any, ...] = ()) -> ModuleType:
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    major = int(version.split(".", maxsplit=1)[0])
    trt.calls = []

    class Logger:
        WARNING = 2

        def __init__(self, min_severity: int) -> None:
            assert min_severity == self.WARNING

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        STRONGLY_TYPED = 1

    flags = ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME", "GPU_FALLBACK"]
    if major == 10:
        flags += ["FP16", "INT8"]
    levels = ["NONE", "AMPERE_PLUS"]
    if (major, int(version.split(".")[1])) >= (10, 14):
        levels.append("SAME_COMPUTE_CAPABILITY")

    class IProgressMonitor:
        def __init__(self) -> None:
            self.initialized = True

    class HostMemory(bytes):
        pass

    class TimingCache:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> HostMemory:
            return HostMemory(self.content + b"+timed")

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, Any] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
            self.shapes[input] = (min, opt, max)

    class BuilderConfig:
        def __init__(self) -> None:
            self.flags: list[Any] = []
            self.limits: dict[Any, int] = {}
            self.profiles: list[Profile] = []
            self.default_device_type: Any = None
            self.DLA_core = -1
            self.hardware_compatibility_level: Any = None
            self.progress_monitor: Any = None
            self.cache: Any = None

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self.limits[pool] = pool_size

        def set_flag(self, flag: Any) -> None:
            self.flags.append(flag.name)

        def add_optimization_profile(self, profile: Profile) -> int:
            valid = all(a <= b <= c for p in profile.shapes.values() for a, b, c in zip(*p))  # noqa: B905
            self.profiles.append(profile)
            return len(self.profiles) - 1 if valid else -1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
            return TimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
            assert ignore_mismatch is False
            if cache.content.startswith(b"foreign"):
                return False
            self.cache = cache
            return True

        def get_timing_cache(self) -> TimingCache:
            return self.cache

    class Builder:
        def __init__(self, logger: Logger) -> None:
            assert isinstance(logger, Logger)
            self.num_DLA_cores = dla_cores

        def create_network(self, flags: int = 0) -> Any:
            trt.calls.append(("create_network", flags))
            return object()

        def create_builder_config(self) -> BuilderConfig:
            trt.config = BuilderConfig()
            return trt.config

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Any, config: BuilderConfig) -> Any:
            assert network is not None
            monitor = config.progress_monitor
            assert isinstance(monitor, IProgressMonitor)
            assert monitor.initialized
            monitor.phase_start("Building Engine", None, 2)
            monitor.phase_start("Tactics", "Building Engine", 1)
            assert monitor.step_complete("Tactics", 0) is True
            trt.while_building()
            monitor.phase_finish("Tactics")
            monitor.step_complete("Building Engine", 0)
            monitor.phase_finish("Building Engine")
            return HostMemory(trt.plan) if trt.plan is not None else None

    class OnnxParser:
        def __init__(self, network: Any, logger: Logger) -> None:
            self.num_errors = len(errors)

        def parse_from_file(self, model: str) -> bool:
            trt.calls.append(("parse", model))
            return not errors

        def get_error(self, index: int) -> Any:
            return errors[index]

    trt.while_building = lambda: None
    trt.plan = b"plan of " + version.encode()
    trt.Logger, trt.Builder, trt.OnnxParser = Logger, Builder, OnnxParser
    trt.IProgressMonitor = IProgressMonitor
    trt.NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
    trt.BuilderFlag = enum.IntEnum("BuilderFlag", flags)
    trt.HardwareCompatibilityLevel = enum.IntEnum("HardwareCompatibilityLevel", levels)
    trt.MemoryPoolType = enum.IntEnum("MemoryPoolType", ["WORKSPACE", "DLA_MANAGED_SRAM"])
    trt.DeviceType = enum.IntEnum("DeviceType", ["GPU", "DLA"])
    return trt
