"""Scripts that set a power mode."""

from __future__ import annotations

import subprocess

import pytest

from repo_builder import targets
from repo_builder.base.errors import UsageError
from repo_builder.targets.advise.roofline import scale
from repo_builder.targets.power_tuning import Processor, tuning

CATALOG = targets.load()


@pytest.mark.parametrize("name", ["jetson-orin-nx", "jetson-agx-orin", "nvidia-gpu"])
def test_scripts_are_shell(name: str) -> None:
    for mode in CATALOG[name].power_modes:
        script = tuning(CATALOG[name], mode.name, {"gpu": 306}).script
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)


def test_nvpmodel_gets_the_makers_number() -> None:
    result = tuning(CATALOG["jetson-agx-orin"], "30W", {})
    assert "nvpmodel -m 2 " in result.script
    assert "systemctl" not in result.script
    assert "budget: 30 W" in result.expect
    assert "gpu: up to 612 MHz, 4 of 8 slices; 24% of the fastest mode" in result.expect
    assert "gpu int8: 20 TOPS dense at most" in result.expect


@pytest.mark.parametrize(("mode", "sparse"), [("MAXN", 171), ("50W", 109), ("30W", 41)])
def test_rates_of_modes_are_those_nvidia_publishes(mode: str, sparse: float) -> None:
    """github.com/NVIDIA/Deep-Learning-Accelerator-SW, GPU of the AGX Orin 64 GB, int8."""
    agx = CATALOG["jetson-agx-orin"]
    clock, slices = scale(agx, next(m for m in agx.power_modes if m.name == mode))
    rate = agx.engines[0].compute[0].sparse_tops
    assert rate is not None
    assert rate * clock * slices == pytest.approx(sparse, rel=0.03)


def test_a_cap_outlives_a_reboot() -> None:
    result = tuning(CATALOG["jetson-orin-nx"], "MAXN", {"gpu": 510})
    assert (
        "echo 510000000 > /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq" in result.script
    )
    assert "systemctl enable --now repo-builder-clocks.service" in result.script
    assert any("up to 510 MHz" in line for line in result.expect)


def test_a_processor_alone_needs_no_mode() -> None:
    """The script does on a tree what `--apply` does: only packages get a limit."""
    script = tuning(CATALOG["cpu"], None, {}, Processor("powersave", watts=15)).script
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    assert 'policy*/scaling_governor; do echo powersave > "$f"; done' in script
    assert 'if grep -q ^package "${f%/*}/name"; then echo 15000000 > "$f"; fi' in script


def test_lower_memory_clock_is_said() -> None:
    assert "memory: 68.3 of 102.4 GB/s" in tuning(CATALOG["jetson-orin-nx"], "10W", {}).expect


@pytest.mark.parametrize(
    ("name", "mode", "caps", "said"),
    [
        ("jetson-orin-nx", None, {}, "name one with --mode: 10W, 15W, 25W, MAXN, 40W"),
        ("jetson-orin-nx", "30W", {}, "no power mode '30W'; did you mean"),
        ("jetson-orin-nx", "15W", {"gpuu": 300}, "no engine 'gpuu'; did you mean 'gpu'?"),
        ("jetson-orin-nx", "15W", {"gpu": 900}, "gpu runs at 1 to 612 MHz in 15W"),
        ("jetson-orin-nx", "15W", {"dla": 100}, "the clock of 'dla' follows the power mode"),
        ("cpu", None, {}, "cpu: has no power modes"),
        ("movidius-myriad-x", None, {}, "its maker has no command"),
    ],
)
def test_what_cannot_be_set_is_said(
    name: str, mode: str | None, caps: dict[str, int], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        tuning(CATALOG[name], mode, caps)
    assert said in str(caught.value)
