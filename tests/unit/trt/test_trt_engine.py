"""The branches of the plan builder, against a fake `tensorrt`: flags, versions, refusals."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fakes import fake_tensorrt

from repo_builder.base.errors import MissingExtra, ModelError, StepError
from repo_builder.trt import engine
from repo_builder.trt.request import Profile, Request


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(version: str, **options: Any) -> ModuleType:
        fake = fake_tensorrt.module(version, **options)
        monkeypatch.setitem(sys.modules, "tensorrt", fake)
        return fake

    return install


def request(**fields: Any) -> Request:
    return Request(model="0" * 64, **fields)


@pytest.mark.parametrize(("version", "flags"), [("10.3.0", 2), ("11.4.1", 0)])
def test_networks_are_strongly_typed(installed: Any, version: str, flags: int) -> None:
    trt = installed(version)
    built = engine.build(Path("model.onnx"), request(precision="int8"))
    assert built.plan == b"plan of " + version.encode()
    assert trt.calls == [("create_network", flags), ("parse", "model.onnx")]
    assert trt.config.flags == []


def test_profiles_workspace_and_compatibility(installed: Any) -> None:
    trt = installed("11.4.1")
    profile = Profile((1, 3, 8, 8), (4, 3, 8, 8), (8, 3, 8, 8))
    engine.build(
        Path("model.onnx"),
        request(
            profiles={"x": profile},
            workspace_mb=64,
            version_compatible=True,
            hardware="same_compute_capability",
        ),
    )
    config = trt.config
    assert config.profiles[0].shapes == {"x": (profile.min, profile.opt, profile.max)}
    assert config.limits == {trt.MemoryPoolType.WORKSPACE: 64 * 1024 * 1024}
    assert config.flags == ["VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"]
    assert config.hardware_compatibility_level.name == "SAME_COMPUTE_CAPABILITY"


def test_a_level_that_this_version_lacks(installed: Any) -> None:
    installed("10.3.0")
    with pytest.raises(StepError, match=r"10\.3\.0 has no hardware level 'same_compute_cap"):
        engine.build(Path("m"), request(hardware="same_compute_capability"))


def test_profiles_out_of_order(installed: Any) -> None:
    installed("10.3.0")
    with pytest.raises(StepError, match="min <= opt <= max"):
        engine.build(Path("m"), request(profiles={"x": Profile((8,), (4,), (1,))}))


@pytest.mark.parametrize(("version", "flags"), [("10.3.0", ["FP16"]), ("11.4.1", [])])
def test_dla_has_its_precision_from_a_flag_on_10_only(
    installed: Any, version: str, flags: list[str]
) -> None:
    trt = installed(version, dla_cores=2)
    engine.build(Path("m"), request(precision="fp16", dla_core=1))
    assert trt.calls[0] == ("create_network", 0)
    assert trt.config.flags == ["GPU_FALLBACK", *flags]
    assert (trt.config.default_device_type.name, trt.config.DLA_core) == ("DLA", 1)


def test_dla_where_there_is_none(installed: Any) -> None:
    installed("10.3.0", dla_cores=1)
    with pytest.raises(StepError, match="no DLA core 1 here: this machine has 1"):
        engine.build(Path("m"), request(precision="fp16", dla_core=1))
    installed("11.2.1", dla_cores=2)
    with pytest.raises(StepError, match=r"10\.7 was the last before 11\.4\.1"):
        engine.build(Path("m"), request(precision="fp16", dla_core=0))


@pytest.mark.parametrize(
    ("version", "supported"),
    [("10.3.0", True), ("10.7.0.23", True), ("10.8.0", False), ("11.4.0", False), ("11.4.1", True)],
)
def test_which_versions_have_dla(version: str, supported: bool) -> None:
    assert engine.dla_supported(version) is supported


def test_timings_of_another_gpu_are_dropped(installed: Any) -> None:
    installed("10.3.0")
    kept = engine.build(Path("m"), request(), timing_cache=b"known")
    assert kept.timing_cache == b"known+timed"
    dropped = engine.build(Path("m"), request(), timing_cache=b"foreign")
    assert dropped.timing_cache == b"+timed"


def test_progress_is_told_with_parents(installed: Any) -> None:
    installed("10.3.0")
    seen: list[engine.Progress] = []
    engine.build(Path("m"), request(), report=seen.append)
    assert seen[0] == engine.Progress("Building Engine", "", 0, 2)
    assert engine.Progress("Tactics", "Building Engine", 1, 1) in seen
    assert seen[-1] == engine.Progress("Building Engine", "", 2, 2)


def test_the_parser_s_errors_are_all_told(installed: Any) -> None:
    error = SimpleNamespace(
        desc=lambda: "no such plugin", node_operator=lambda: "Det", node_name=lambda: "det0"
    )
    installed("10.3.0", errors=(error, error))
    with pytest.raises(ModelError, match="Det node 'det0': no such plugin") as caught:
        engine.build(Path("m"), request())
    assert len(caught.value.problems) == 2


def test_a_build_that_fails(installed: Any) -> None:
    installed("10.3.0").plan = None
    with pytest.raises(StepError, match="could not build"):
        engine.build(Path("m"), request())


def test_without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[tensorrt\]"):
        engine.version()
