"""Portability: every rule of TensorRT's compatibility, and records that cannot be trusted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from repo_builder.base import digest
from repo_builder.base.errors import ModelError
from repo_builder.trt import record
from repo_builder.trt.record import Device, Record, mismatches

ORIN = Device("10.3.0.30", "8.7", "Orin", "linux-aarch64")
PLAN = Record(
    plan=digest.hashlib.sha256(b"plan").hexdigest(),
    model="0" * 64,
    tensorrt="10.3.0.30",
    compute_capability="8.7",
    gpu="Orin",
    platform="linux-aarch64",
    version_compatible=False,
    hardware="none",
    dla_core=None,
)


def fields(plan: Record, device: Device) -> list[str]:
    return [problem.field for problem in mismatches(plan, device)]


def test_it_fits_where_it_was_built() -> None:
    assert mismatches(PLAN, ORIN) == []


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    l4 = Device("10.5.0.18", "8.9", "NVIDIA L4", "linux-x86_64")
    assert fields(PLAN, l4) == ["platform", "tensorrt", "gpu"]
    assert "built on Orin (compute capability 8.7), the device has NVIDIA L4 (8.9)" in str(
        mismatches(PLAN, l4)[2]
    )


@pytest.mark.parametrize(
    ("built", "here", "compatible", "fits"),
    [
        ("10.3.0.30", "10.3", False, True),  # the catalog knows two parts
        ("10.3.0.30", "10.3.0.31", False, False),
        ("10.3.0", "10.7.0", False, False),
        ("10.3.0", "10.7.0", True, True),
        ("10.7.0", "10.3.0", True, False),
        ("10.3.0", "11.4.1", True, True),
        ("11.0.0", "11.4.1", True, True),
        ("11.0.0", "10.16.1", True, False),
        ("11.4.1", "12.0.0", True, False),
    ],
)
def test_versions(built: str, here: str, compatible: bool, fits: bool) -> None:
    plan = replace(PLAN, tensorrt=built, version_compatible=compatible)
    assert fields(plan, replace(ORIN, tensorrt=here)) == ([] if fits else ["tensorrt"])


@pytest.mark.parametrize(
    ("hardware", "capability", "gpu", "fits"),
    [
        ("none", "8.7", "Orin", True),
        ("none", "8.7", "Orin Nano", False),
        ("same_compute_capability", "8.7", "Orin Nano", True),
        ("same_compute_capability", "8.9", "Orin", False),
        ("ampere_plus", "12.0", "NVIDIA RTX 5090", True),
        ("ampere_plus", "7.5", "Tesla T4", False),
    ],
)
def test_hardware(hardware: record.Hardware, capability: str, gpu: str, fits: bool) -> None:
    plan = replace(PLAN, hardware=hardware)
    device = replace(ORIN, compute_capability=capability, gpu=gpu)
    assert fields(plan, device) == ([] if fits else ["gpu"])


def test_a_record_comes_back(tmp_path: Path) -> None:
    (tmp_path / record.PLAN).write_bytes(b"plan")
    PLAN.write(tmp_path)
    assert record.read(tmp_path) == PLAN


def test_records_that_cannot_be_trusted(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        record.read(tmp_path)
    (tmp_path / record.PLAN).write_bytes(b"plan")
    PLAN.write(tmp_path)
    file = tmp_path / record.FILE
    good = file.read_text()
    file.write_text(good.replace('"8.7"', '"8.9"'))
    with pytest.raises(ModelError, match="was changed after it was written"):
        record.read(tmp_path)
    for bad in ("", "[]", "{}", good.replace('"gpu"', '"cpu"'), good.replace('"8.7"', "8.7")):
        file.write_text(bad)
        with pytest.raises(ModelError, match="not a portability record"):
            record.read(tmp_path)
    file.write_text(good)
    (tmp_path / record.PLAN).write_bytes(b"another plan")
    with pytest.raises(ModelError, match=r"is not the plan that portability\.json describes"):
        record.read(tmp_path)


def test_a_device_from_json() -> None:
    text = json.dumps(
        {
            "tensorrt": "10.3",
            "compute_capability": "8.7",
            "gpu": "Orin",
            "platform": "linux-aarch64",
        }
    )
    assert record.device_from(text, "orin.json").gpu == "Orin"
    for bad in ("", "[]", "{}", text.replace('"10.3"', "10.3")):
        with pytest.raises(ModelError, match=r"orin\.json: not a device; it has the fields tens"):
            record.device_from(bad, "orin.json")
