"""Nothing that is built or served is told to anybody: OpenVINO's and NNCF's reports are off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SERVED = ROOT / "repo_builder/serve/backends/openvino/model.py"

# Fails where anything forks, or looks up a host; pytest and CI switch the reports off, too.
WATCH = """
import sys

def forbid(event, args):
    if event in ("os.fork", "socket.getaddrinfo"):
        print(event, args, file=sys.stderr, flush=True)
        import os
        os._exit(1)

sys.addaudithook(forbid)
"""


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    env = {**kept, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WATCH + code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_an_int8_build_reports_nothing(tmp_path: Path) -> None:
    done = run(
        f"""
import shutil
from pathlib import Path
from repo_builder import steps
scratch, examples = Path({str(tmp_path)!r}), Path({str(ROOT)!r}) / "model_specs/digits"
for name in ("in", "out"):
    (scratch / name).mkdir()
shutil.copy(examples / "digits.onnx", scratch / "in/model.onnx")
shutil.copy(examples / "calibration.npz", scratch / "in/calibration.npz")
step = steps.load("compile-openvino")
given = step.Inputs(scratch / "in", scratch / "in")
step.run(given, step.Params(precision="int8", samples=8), scratch / "out")
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out/model.xml").exists()
    assert not (tmp_path / "intel").exists()


def test_a_served_model_reports_nothing(tmp_path: Path) -> None:
    before, _, _ = SERVED.read_text().partition("_OPENVINO_TYPES")
    lines = [
        line for line in before.splitlines() if "telemetry" in line or "import openvino" in line
    ]
    assert len(lines) == 2, lines
    done = run("\n".join(["", *lines, "import time; time.sleep(0)"]), tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "intel").exists()
