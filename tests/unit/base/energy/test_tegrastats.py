"""Lines that tegrastats printed on real boards, from public reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_builder.base.energy import tegrastats

AGX_JETPACK_5 = (
    "RAM 9345/30589MB (lfb 3x4MB) SWAP 0/15295MB (cached 0MB) CPU [25%@2201,off,100%@2201] "
    "EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 NVDLA0_FREQ @1600 APE 174 CV0@73.625C "
    "CPU@77.281C Tboard@62C SOC2@70C Tdiode@62.25C SOC0@69.531C CV1@-256C GPU@69.125C tj@77.281C "
    "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW "
    "VDDQ_VDD2_1V8AO 1091mW/1091mW"
)
AGX_JETPACK_6 = (
    "10-13-2026 12:00:00 RAM 4023/30536MB (lfb 5555x4MB) SWAP 0/15268MB (cached 0MB) "
    "CPU [0%@1190,0%@1190,off,off] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] cpu@45.5C tj@45.5C "
    "VDD_GPU_SOC 3188mW/3188mW VDD_CPU_CV 1195mW/1195mW VIN_SYS_5V0 3229mW/3229mW"
)
NANO_JETPACK_4 = (
    "RAM 1903/3964MB (lfb 122x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [19%@1479,8%@1479,5%@1479,off] EMC_FREQ 3%@1600 GR3D_FREQ 99%@921 APE 25 PLL@38C "
    "CPU@41.5C PMIC@100C GPU@38.5C AO@47C thermal@40C POM_5V_IN 3532/3532 POM_5V_GPU 124/124"
)


def test_jetpack_5_on_an_agx() -> None:
    line = tegrastats.parse(AGX_JETPACK_5)
    assert line is not None
    assert line.watts == {
        "VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091,
    }  # fmt: skip
    assert line.average_watts["VDD_CPU_CV"] == 12.415
    assert line.celsius["cpu"] == 77.281
    assert "cv1" not in line.celsius  # -256: off
    assert line.mhz == {"EMC": 2133, "GR3D": 407, "VIC": 115, "NVDLA0": 1600}
    assert line.load == {"EMC": 0.01, "GR3D": 0.14}
    assert line.cpu == ((0.25, 2201), (1.0, 2201))
    assert line.memory_mb == (9345, 30589)


def test_jetpack_6_begins_with_the_time() -> None:
    line = tegrastats.parse(AGX_JETPACK_6)
    assert line is not None
    assert line.watts == {"VDD_GPU_SOC": 3.188, "VDD_CPU_CV": 1.195, "VIN_SYS_5V0": 3.229}
    assert line.celsius == {"cpu": 45.5, "tj": 45.5}


def test_jetpack_4_has_no_units_on_rails() -> None:
    line = tegrastats.parse(NANO_JETPACK_4)
    assert line is not None
    assert line.watts == {"POM_5V_IN": 3.532, "POM_5V_GPU": 0.124}
    assert line.mhz["GR3D"] == 921


def test_without_root_the_rails_are_missing_and_that_is_said() -> None:
    line = tegrastats.parse(AGX_JETPACK_6.partition(" VDD_GPU_SOC")[0])
    assert line is not None
    assert line.watts == {}
    assert "run it as root" in line.why_no_power()


def test_a_log_is_summed_up_and_what_is_no_line_is_counted() -> None:
    later = AGX_JETPACK_6.replace("3188mW/", "4188mW/").replace("cpu@45.5C", "cpu@55.5C")
    found = tegrastats.log([AGX_JETPACK_6, "", "tegrastats: stopped", later])
    assert (found.lines, found.others) == (2, 1)
    assert found.watts["VDD_GPU_SOC"] == pytest.approx(3.688)
    assert found.celsius["cpu"] == (50.5, 55.5)


PIECES = "RAM 1/2MB|CPU [|12%@|off,|]|%@x|GR3D_FREQ |@[4,,5]|@[40,7]|cpu@|-256C|VDD_IN |3mW/|3mW"
WORDS = st.sampled_from([*PIECES.split("|"), " ", "\u0663", ","])


@given(st.lists(st.one_of(WORDS, st.text(max_size=5)), max_size=30).map("".join))
def test_no_text_breaks_it(text: str) -> None:
    line = tegrastats.parse(text)
    assert line is None or all(watts >= 0 for watts in line.watts.values())


@pytest.mark.parametrize("text", ["", "tegrastats: command not found", "VDD_IN 3mW/3mW"])
def test_what_is_no_line_of_it_is_none(text: str) -> None:
    assert tegrastats.parse(text) is None
