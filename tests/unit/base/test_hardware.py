"""What is said of the hardware comes from files of the system, here from trees of real layout."""

from __future__ import annotations

from pathlib import Path

from repo_builder.base.hardware import hardware, state

PI = {
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\n\nprocessor\t: 1\n\n"
    "Model\t\t: Raspberry Pi 5 Model B Rev 1.0\n",
    "proc/loadavg": "0.52 0.58 0.59 1/467 12345\n",
    "proc/meminfo": "MemTotal:        8000000 kB\nMemFree: 1 kB\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "2400000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq": "2400000\n",
    "sys/devices/system/cpu/cpufreq/policy1/scaling_cur_freq": "2400000\n",
    "sys/class/thermal/thermal_zone0/temp": "61200\n",
    "sys/class/thermal/thermal_zone1/temp": "-273150\n",
}


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_board(tmp_path: Path) -> None:
    root = system(tmp_path, PI)
    found = hardware(root)
    assert found.cpu == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.flags == ("asimd", "asimdhp", "asimddp")
    assert found.governors == ("ondemand", "performance")
    assert (found.cores_online, found.max_mhz, found.virtual) == (2, 2400.0, False)
    assert found.memory_mb == 8192.0
    now = state(root)
    assert (now.mhz, now.celsius, now.throttled, now.load) == (1950.0, 61.2, None, 0.52)


def test_a_pc_that_was_slowed_down(tmp_path: Path) -> None:
    counts = {
        f"sys/devices/system/cpu/cpu{n}/thermal_throttle/core_throttle_count": f"{n + 3}\n"
        for n in range(2)
    }
    info = "processor\t: 0\nmodel name\t: Some  CPU\ncpu MHz\t\t: 2596.100\nflags\t\t: avx2 fpu\n"
    root = system(tmp_path, {**counts, "proc/cpuinfo": info})
    assert (state(root).throttled, state(root).mhz) == (7, 2596.1)
    assert (hardware(root).cpu, hardware(root).flags) == ("Some CPU", ("avx2",))


def test_a_system_that_says_nothing_is_given_no_figures(tmp_path: Path) -> None:
    found, now = hardware(tmp_path), state(tmp_path)
    assert (found.flags, found.governors, found.max_mhz, found.memory_mb) == ((), (), None, None)
    assert (now.mhz, now.celsius, now.throttled, now.load) == (None, None, None, None)
