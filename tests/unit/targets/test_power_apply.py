"""Power modes set on trees of sysfs, read back, and undone where one does not take."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.base.errors import PowerError, UsageError
from repo_builder.targets import power_apply
from repo_builder.targets.power_tuning import Processor, actions

CATALOG = targets.load()
POLICY = "sys/devices/system/cpu/cpufreq"
GPU = "sys/devices/platform/17000000.gpu/devfreq_dev"

NVPMODEL = """#!/bin/sh
state="$(dirname "$0")/state"
case "$1" in
  -q) echo "NVPM WARN: fan mode is not set!"
      echo "NV Power Mode: MODE_$(cat "$state")"
      cat "$state" ;;
  -m) {set} ;;
esac
"""


def _write(root: Path, name: str, value: object) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")
    return path


def _cpus(root: Path) -> None:
    for number in (0, 4):
        folder = f"{POLICY}/policy{number}"
        _write(root, f"{folder}/scaling_governor", "performance")
        _write(root, f"{folder}/scaling_available_governors", "performance powersave")
        _write(root, f"{folder}/energy_performance_preference", "performance")
        _write(root, f"{folder}/energy_performance_available_preferences", "performance power")
        _write(root, f"{folder}/scaling_max_freq", 1_984_000)
        _write(root, f"{folder}/scaling_min_freq", 729_600)
        _write(root, f"{folder}/cpuinfo_max_freq", 1_984_000)
    zone = "sys/class/powercap/intel-rapl:0"
    _write(root, f"{zone}/constraint_0_power_limit_uw", 28_000_000)
    _write(root, f"{zone}/constraint_0_max_power_uw", 45_000_000)
    _write(root, f"{zone}/name", "package-0")
    _write(root, "sys/class/powercap/intel-rapl:1/name", "psys")
    _write(root, "sys/class/powercap/intel-rapl:1/constraint_0_power_limit_uw", 60_000_000)
    _write(root, f"{zone}:0/constraint_0_power_limit_uw", 0)


def _jetson(root: Path, sets: str = 'echo "$2" > "$state"') -> None:
    tool = _write(root, "usr/sbin/nvpmodel", NVPMODEL.replace("{set}", sets))
    tool.chmod(0o755)
    _write(root, "usr/sbin/state", 0)
    _write(root, f"{GPU}/max_freq", 918_000_000)
    _write(root, f"{GPU}/min_freq", 306_000_000)
    _write(root, f"{GPU}/available_frequencies", "306000000 408000000 510000000 918000000")


def _all(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


def test_a_processor_is_set_and_read_back(tmp_path: Path) -> None:
    _cpus(tmp_path)
    wanted = Processor("powersave", "power", 1200, 15)
    done = power_apply.apply(actions(CATALOG["cpu"], None, {}, wanted, tmp_path), tmp_path)
    assert done.changes == [
        "governor of policy0: performance -> powersave",
        "governor of policy4: performance -> powersave",
        "preference of policy0: performance -> power",
        "preference of policy4: performance -> power",
        "most MHz of policy0: 1984000 -> 1200000",
        "most MHz of policy4: 1984000 -> 1200000",
        "package watts of intel-rapl:0: 28000000 -> 15000000",
    ]
    assert (tmp_path / POLICY / "policy4/scaling_governor").read_text() == "powersave\n"
    inside = tmp_path / "sys/class/powercap/intel-rapl:0:0/constraint_0_power_limit_uw"
    assert inside.read_text() == "0\n"


def test_a_jetsons_mode_and_a_cap_between_steps(tmp_path: Path) -> None:
    _jetson(tmp_path)
    orin = CATALOG["jetson-orin-nx"]
    done = power_apply.apply(actions(orin, "MAXN", {"gpu": 510}, root=tmp_path), tmp_path)
    assert done.changes == ["power mode MAXN: 0 -> 0", "gpu cap: 918000000 -> 510000000"]
    done = power_apply.apply(actions(orin, "15W", {}, root=tmp_path), tmp_path)
    assert done.changes == ["power mode 15W: 0 -> 2"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Processor(governor="powersafe"), "'powersafe' is none of its values; one of: performance"),
        (Processor(most_mhz=500), "500000 is less than scaling_min_freq, 729600"),
        (Processor(most_mhz=9000), "9000000 is more than cpuinfo_max_freq, 1984000"),
        (Processor(watts=90), "90000000 is more than constraint_0_max_power_uw, 45000000"),
    ],
)
def test_what_it_does_not_take_is_told_before_anything_changes(
    tmp_path: Path, wanted: Processor, said: str
) -> None:
    _cpus(tmp_path)
    before = _all(tmp_path)
    with pytest.raises(PowerError, match="nothing was changed") as refused:
        power_apply.apply(actions(CATALOG["cpu"], None, {}, wanted, tmp_path), tmp_path)
    assert said in str(refused.value)
    assert _all(tmp_path) == before


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this kernel does not set it"):
        actions(CATALOG["cpu"], None, {}, Processor(most_mhz=1000), tmp_path)
    with pytest.raises(PowerError, match=r"nvpmodel: power mode 15W: is not there; is this the"):
        power_apply.apply(actions(CATALOG["jetson-orin-nx"], "15W", {}, root=tmp_path), tmp_path)


def test_a_mode_that_does_not_take_is_told_and_all_goes_back(tmp_path: Path) -> None:
    """As where nvpmodel wants a reboot: it asks, gets no answer and leaves the mode."""
    _cpus(tmp_path)
    _jetson(tmp_path, sets="echo 'DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:'")
    before = _all(tmp_path)
    todo = actions(CATALOG["cpu"], None, {}, Processor("powersave"), tmp_path)
    todo += actions(CATALOG["jetson-orin-nx"], "15W", {}, root=tmp_path)
    with pytest.raises(PowerError) as failed:
        power_apply.apply(todo, tmp_path)
    assert "asked for 2, reads 0; it may take effect after a reboot only" in str(failed.value)
    assert "all is as it was" in str(failed.value)
    assert _all(tmp_path) == before


def test_a_tool_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    _jetson(tmp_path, sets="echo 'NVPM ERROR: cannot set clock' >&2; exit 3")
    with pytest.raises(PowerError, match="exit 3: NVPM ERROR: cannot set clock; all is as it was"):
        power_apply.apply(actions(CATALOG["jetson-orin-nx"], "15W", {}, root=tmp_path), tmp_path)


def test_a_mode_that_resets_an_earlier_setting_is_noticed(tmp_path: Path) -> None:
    _jetson(tmp_path, sets=f'echo "$2" > "$state"; echo 612000000 > {tmp_path / GPU}/max_freq')
    cap = power_apply.Write(f"/{GPU}/max_freq", "408000000", "gpu cap")
    mode = power_apply.nvpmodel("15W", 2)
    with pytest.raises(PowerError, match="took 408000000, and then reads 612000000"):
        power_apply.apply([cap, mode], tmp_path)
    assert (tmp_path / GPU / "max_freq").read_text() == "918000000\n"
    assert (tmp_path / "usr/sbin/state").read_text() == "0\n"


def test_a_file_that_keeps_its_value_is_noticed(tmp_path: Path) -> None:
    """As where a firmware holds a limit: a write is taken and changes nothing."""
    _cpus(tmp_path)
    limit = tmp_path / "sys/class/powercap/intel-rapl:0/constraint_0_power_limit_uw"
    limit.unlink()
    limit.symlink_to("/dev/null")  # takes all, and reads as nothing
    with pytest.raises(PowerError, match=r"asked for 15000000, reads ;.*all is as it was"):
        power_apply.apply(
            actions(CATALOG["cpu"], None, {}, Processor(watts=15), tmp_path), tmp_path
        )


def test_nvidia_smi_is_asked_for_the_limit(tmp_path: Path) -> None:
    script = (
        '#!/bin/sh\nstate="$(dirname "$0")/state"\ncase "$1" in\n'
        '  --query-gpu=power.limit) cat "$state" ;;\n'
        '  --power-limit=*) echo "${1#*=}" > "$state" ;;\nesac\n'
    )
    _write(tmp_path, "usr/bin/nvidia-smi", script).chmod(0o755)
    _write(tmp_path, "usr/bin/state", "40.00")
    gpu = CATALOG["nvidia-gpu"]
    done = power_apply.apply(actions(gpu, None, {}, root=tmp_path), tmp_path)
    assert done.changes == ["power limit: 40.00 -> 72.00"]
    with pytest.raises(UsageError, match="no cap can be verified"):
        actions(gpu, None, {"gpu": 600}, root=tmp_path)


def test_ctrl_c_on_the_way_puts_all_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cpus(tmp_path)
    before, write = _all(tmp_path), Path.write_text

    def stopped(path: Path, text: str, encoding: str | None = None) -> int:
        done = write(path, text, encoding)
        if "policy4" in str(path) and text == "powersave\n":
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Path, "write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        power_apply.apply(
            actions(CATALOG["cpu"], None, {}, Processor("powersave"), tmp_path), tmp_path
        )
    assert _all(tmp_path) == before


def test_without_rights_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _cpus(tmp_path)
    before = _all(tmp_path)
    monkeypatch.setattr(os, "access", lambda _path, mode: mode != os.W_OK)  # for root too
    with pytest.raises(PowerError, match="may not be written; run it with sudo"):
        power_apply.apply(
            actions(CATALOG["cpu"], None, {}, Processor("powersave"), tmp_path), tmp_path
        )
    assert _all(tmp_path) == before
