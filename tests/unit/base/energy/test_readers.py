"""What is read where, on trees of real layout."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from repo_builder.base import energy
from repo_builder.base.energy import battery, climate, nvml
from tests.unit.base.energy import trees


def _names(sources: Any) -> list[str]:
    return [source.about.name for source in sources]


def test_an_orin_nx_is_its_input_rail_alone(tmp_path: Path) -> None:
    trees.orin_nx(tmp_path)
    found = energy.find(tmp_path)
    assert _names(found.sources) == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]  # no sum of shunts
    (board,) = energy.chosen(found.sources)
    assert board.about.covers == "board"
    assert board.read() == pytest.approx(4.968 * 1.104)
    assert "no counters of energy" in str(found.missing[0])


def test_an_agx_orin_is_its_rails_less_those_inside_others(tmp_path: Path) -> None:
    trees.agx_orin(tmp_path)
    found = energy.find(tmp_path).sources
    assert "VDDQ_VDD2_1V8AO" in _names(found)
    assert _names(energy.chosen(found)) == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]
    watts = sum(source.read() for source in energy.chosen(found))
    assert watts == pytest.approx(19.864 * 0.18 + 19.872 * 0.06 + 4.992 * 0.98)


def test_memory_counts_beside_packages_and_cores_do_not(tmp_path: Path) -> None:
    trees.xeon(tmp_path)
    chosen = energy.chosen(energy.find(tmp_path).sources)
    assert sorted(_names(chosen)) == [
        "dram of package-0", "dram of package-1", "package-0", "package-1",
    ]  # fmt: skip


def test_a_platforms_counter_has_the_packages_in_it(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    assert _names(energy.chosen(energy.find(tmp_path).sources)) == ["psys"]


def test_a_battery_tells_watts_only_while_it_is_discharged(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    (found,) = battery.find(tmp_path)  # the mouse's is not the machine's
    assert isinstance(found, battery.Battery)
    assert found.read() == pytest.approx(11.4)
    assert found.watt_hours() == pytest.approx(33.3)
    (tmp_path / "sys/class/power_supply/BAT0/status").write_text("Charging\n")
    with pytest.raises(energy.CannotRead, match="unplug it"):
        found.read()


def test_what_is_left_is_told_while_it_is_charged(tmp_path: Path) -> None:
    trees.laptop(tmp_path, status="Charging")
    assert battery.watt_hours(tmp_path) == pytest.approx(33.3)
    with pytest.raises(energy.CannotRead, match="no battery"):
        battery.watt_hours(tmp_path / "none")


def test_a_battery_is_asked_only_where_nothing_better_is_there(tmp_path: Path) -> None:
    trees.laptop(tmp_path)
    batteries = [s for s in energy.find(tmp_path).sources if s.about.covers == "battery"]
    assert energy.chosen(batteries) == ()
    assert _names(energy.chosen(batteries, slow=True)) == ["BAT0"]


def test_a_machine_without_sensors_says_what_it_lacks(tmp_path: Path) -> None:
    assert energy.meter(tmp_path) is None
    assert "no counters of energy" in energy.why_not(tmp_path)
    assert "no sensor of power" in energy.why_not(tmp_path)


def test_a_counter_without_rights_says_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.xeon(tmp_path)

    def refused(self: Path, *_: Any, **__: Any) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        with self.open() as file:
            return file.read()

    monkeypatch.setattr(Path, "read_text", refused)
    assert "energy_uj: permission denied; make it readable (chmod a+r), as root" in energy.why_not(
        tmp_path
    )


def test_a_file_that_is_no_number_is_told(tmp_path: Path) -> None:
    trees.orin_nx(tmp_path)
    (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").write_text("")
    found = energy.find(tmp_path)
    assert "VDD_IN" not in _names(found.sources)
    assert any("curr1_input: not a number" in one.why for one in found.missing)


def test_the_climate_of_an_orin(tmp_path: Path) -> None:
    trees.orin_nx(tmp_path)
    before = climate.read(tmp_path)
    assert before.celsius == {"cpu-thermal": 63.625, "gpu-thermal": 61.0}
    assert any("-256 C is no temperature" in line for line in before.missing)
    assert before.hottest() == 63.625
    assert before.mhz == {"policy0": 1984.0, "policy4": 729.6, "17000000.gpu": 918.0}
    assert before.cpu_mhz() == pytest.approx(1356.8)
    (tmp_path / "sys/class/hwmon/hwmon3/oc3_event_cnt").write_text("40\n")
    (tmp_path / "proc/stat").write_text("cpu  180 0 100 820 0 0 0 0 0 0\n")
    after = climate.read(tmp_path)
    assert climate.throttled(before, after) == {"over-current oc3": 3}
    assert climate.busy(before, after) == pytest.approx(0.8)


def test_processors_of_amd_tell_their_heat_in_hwmon(tmp_path: Path) -> None:
    trees.write(
        tmp_path,
        {
            "sys/class/hwmon/hwmon0/name": "nvme",
            "sys/class/hwmon/hwmon0/temp1_input": 71_000,
            "sys/class/hwmon/hwmon1/name": "k10temp",
            "sys/class/hwmon/hwmon1/temp1_input": 55_250,
            "sys/class/hwmon/hwmon1/temp1_label": "Tctl",
        },
    )
    assert climate.read(tmp_path).celsius == {"k10temp Tctl": 55.25}  # a disk is no processor


def test_x86_counts_its_packages_once(tmp_path: Path) -> None:
    trees.xeon(tmp_path)
    assert climate.read(tmp_path).throttles == {
        "cpu0 too hot": 3, "package 0 too hot": 7, "cpu1 too hot": 3,
    }  # fmt: skip


def test_a_machine_without_thermal_zones_says_so(tmp_path: Path) -> None:
    found = climate.read(tmp_path)
    assert found.hottest() is None
    assert found.cpu_mhz() is None
    assert [line.partition(":")[0] for line in found.missing] == [
        "temperature", "clocks", "throttling",
    ]  # fmt: skip


class _Nvml:
    """NVML's calls, of a GPU that counts energy and an old one that does not."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> Any:  # noqa: N802
        return SimpleNamespace(number=number)

    def nvmlDeviceGetName(self, handle: Any) -> str:  # noqa: N802
        return ("NVIDIA T4", "Tesla M4")[handle.number]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:  # noqa: N802
        if handle.number:
            raise self.NVMLError("Not Supported")
        return 12_500

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:  # noqa: N802
        return 41_000


def test_gpus_count_energy_or_tell_watts() -> None:
    found = list(nvml.find(_Nvml()))
    assert [str(gpu.about) for gpu in found if isinstance(gpu, nvml.Gpu)] == [
        "nvml GPU 0 NVIDIA T4 (gpu, J, steps of 0.001)",
        "nvml GPU 1 Tesla M4 (gpu, W, steps of 0.001)",
    ]
    assert [gpu.read() for gpu in found if isinstance(gpu, nvml.Gpu)] == [12.5, 41.0]


def test_without_the_binding_nothing_is_told_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    (missing,) = nvml.find()
    assert str(missing) == "nvml: the package nvidia-ml-py is not installed"
