"""Trees of sysfs as real machines have them, to be written into a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

I2C = "sys/devices/platform/bus@0/c240000.i2c/i2c-1"


def write(root: Path, files: Mapping[str, object]) -> None:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")


def _ina3221(root: Path, chip: str, number: int, rails: Mapping[int, tuple[str, int, int]]) -> None:
    """A chip of three channels, with what ina3221's driver adds: shunts in4 to in6, sum in7."""
    device = f"{I2C}/{chip}/hwmon/hwmon{number}"
    files: dict[str, object] = {
        f"{device}/name": "ina3221",
        f"{device}/in7_label": "sum of shunt voltages",
    }
    for channel, (label, millivolts, milliamperes) in rails.items():
        files[f"{device}/in{channel}_label"] = label
        files[f"{device}/in{channel}_enable"] = 1
        files[f"{device}/in{channel}_input"] = millivolts
        files[f"{device}/curr{channel}_input"] = milliamperes
        files[f"{device}/in{channel + 3}_input"] = milliamperes * 5 // 1000
    files[f"{device}/in7_input"] = 21
    write(root, files)
    link = root / f"sys/class/hwmon/hwmon{number}"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root / device)
    driver = root / "sys/bus/i2c/drivers/ina3221" / chip
    driver.parent.mkdir(parents=True, exist_ok=True)
    driver.symlink_to(root / I2C / chip)


def orin_nx(root: Path) -> None:
    """Jetson Orin NX and Nano: one chip, whose first channel is all of the module."""
    rails = {1: ("VDD_IN", 4968, 1104), 2: ("VDD_CPU_GPU_CV", 4960, 192), 3: ("VDD_SOC", 4960, 288)}
    _ina3221(root, "1-0040", 1, rails)
    write(
        root,
        {
            "sys/class/hwmon/hwmon0/name": "pwmfan",
            "sys/class/hwmon/hwmon3/name": "soctherm_oc",
            "sys/class/hwmon/hwmon3/oc1_event_cnt": 0,
            "sys/class/hwmon/hwmon3/oc2_event_cnt": 15,
            "sys/class/hwmon/hwmon3/oc3_event_cnt": 37,
            "sys/class/hwmon/hwmon3/oc1_throt_en": 1,
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": 63625,
            "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
            "sys/class/thermal/thermal_zone1/temp": 61000,
            "sys/class/thermal/thermal_zone2/type": "cv0-thermal",
            "sys/class/thermal/thermal_zone2/temp": -256000,
            "sys/class/devfreq/17000000.gpu/cur_freq": 918000000,
            "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": 1984000,
            "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": 729600,
            "proc/stat": "cpu  100 0 100 800 0 0 0 0 0 0",
        },
    )


def agx_orin(root: Path) -> None:
    """Jetson AGX Orin: two chips and no rail for all; a channel is not connected."""
    rails = {
        1: ("VDD_GPU_SOC", 19864, 180),
        2: ("VDD_CPU_CV", 19872, 60),
        3: ("VIN_SYS_5V0", 4992, 980),
    }
    _ina3221(root, "1-0040", 1, rails)
    _ina3221(root, "1-0041", 2, {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 4992, 218)})


def xeon(root: Path) -> None:
    """Two sockets with memory counted beside them, and cores inside."""
    for socket in (0, 1):
        zone = f"sys/class/powercap/intel-rapl:{socket}"
        write(
            root,
            {
                f"{zone}/name": f"package-{socket}",
                f"{zone}/energy_uj": 1_000_000,
                f"{zone}/max_energy_range_uj": 262_143_328_850,
                f"sys/class/powercap/intel-rapl:{socket}:0/name": "dram",
                f"sys/class/powercap/intel-rapl:{socket}:0/energy_uj": 500_000,
                f"sys/class/powercap/intel-rapl:{socket}:0/max_energy_range_uj": 65_712_999_613,
                f"sys/class/powercap/intel-rapl:{socket}:1/name": "core",
                f"sys/class/powercap/intel-rapl:{socket}:1/energy_uj": 700_000,
                f"sys/devices/system/cpu/cpu{socket}/thermal_throttle/core_throttle_count": 3,
                f"sys/devices/system/cpu/cpu{socket}/thermal_throttle/package_throttle_count": 7,
                f"sys/devices/system/cpu/cpu{socket}/topology/physical_package_id": 0,
            },
        )


def laptop(root: Path, status: str = "Discharging") -> None:
    """A platform's counter beside the package's, and a battery whose current is negative."""
    write(
        root,
        {
            "sys/class/powercap/intel-rapl:0/name": "package-0",
            "sys/class/powercap/intel-rapl:0/energy_uj": 5,
            "sys/class/powercap/intel-rapl:1/name": "psys",
            "sys/class/powercap/intel-rapl:1/energy_uj": 9,
            "sys/class/power_supply/AC/type": "Mains",
            "sys/class/power_supply/AC/online": 0,
            "sys/class/power_supply/BAT0/type": "Battery",
            "sys/class/power_supply/BAT0/status": status,
            "sys/class/power_supply/BAT0/voltage_now": 11_400_000,
            "sys/class/power_supply/BAT0/voltage_min_design": 11_100_000,
            "sys/class/power_supply/BAT0/current_now": -1_000_000,
            "sys/class/power_supply/BAT0/charge_now": 3_000_000,
            "sys/class/power_supply/hidpp_battery_0/type": "Battery",
            "sys/class/power_supply/hidpp_battery_0/scope": "Device",
        },
    )
