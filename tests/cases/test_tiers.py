"""One spec on every tier of the catalog that it fits, and how far each was verified."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SPECS = Path(__file__).parents[2] / "model_specs"
LEVELS = {
    "cpu": "executed",
    "cpu-openvino": "executed",
    "jetson-orin-nx": "prepared",
    "jetson-agx-orin": "prepared",
    "intel-npu": "prepared",
    "movidius-myriad-x": "prepared",
    "snapdragon-qcs8275": "simulated",
    "ethos-u55": "compiled",
    "ethos-u85": "compiled",
    "tflite-micro": "simulated",
}


def test_vibration_is_built_for_every_tier(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "repo_builder", "build", str(SPECS), "--only", "vibration@*"]
    command += ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out"), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = {row["target"]: row for row in json.loads(ended.stdout)["rows"]}
    assert {target: row["level"] for target, row in rows.items()} == LEVELS
    for row in rows.values():
        assert row["level_reason"]
        assert row["score"]["drop"] <= 0.01
    int8 = rows["cpu"]["score"]["built"]
    assert abs(rows["snapdragon-qcs8275"]["score"]["built"] - int8) <= 0.005
    micro = tmp_path / "out" / "tflite-micro" / "bundles" / "vibration" / "1.0.0"
    assert (micro / "model.tflite").is_file()
    assert not (tmp_path / "out" / "tflite-micro" / "models").exists()
    manifest = json.loads((tmp_path / "out" / "ethos-u55" / "manifest.json").read_text())
    compiler = manifest["models"]["vibration"]["compiler"]
    assert compiler["npu_share"] >= 0.95
    assert compiler["performance"]["cycles"] > 0
