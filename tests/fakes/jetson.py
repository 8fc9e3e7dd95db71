"""A pretended Jetson: libcuda and libnvinfer as small C libraries, and `tensorrt` as the fake.

For what is ours around TensorRT; nothing that runs on it says anything of TensorRT or of a GPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CUDA = """
int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal != 0; }
int cuDeviceGetName(char *name, int length, int device) {
  const char text[] = "Orin"; int i;
  for (i = 0; i < 5 && i < length; i++) name[i] = text[i];
  return device != 7; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1; return device != 7; }
"""
NVINFER = """
int getInferLibMajorVersion(void) { return 10; }
int getInferLibMinorVersion(void) { return 3; }
int getInferLibPatchVersion(void) { return 0; }
int getInferLibBuildVersion(void) { return 30; }
"""
# Replaces itself by the fake; waits in the middle of a build while the file `hold` is there.
TENSORRT = """
import os, sys, time
from pathlib import Path
from fakes import fake_tensorrt
fake = fake_tensorrt.module("10.3.0")
here = Path(__file__).parent
fake.plan = (here / "plan.onnx").read_bytes()
def while_building():
    with (here / "builds").open("a") as file:
        file.write("x")
    while (here / "hold").exists():
        time.sleep(0.01)
fake.while_building = while_building
sys.modules["tensorrt"] = fake
"""


def compile_libraries(folder: Path) -> None:
    """Compile `libcuda.so.1` and `libnvinfer.so.10` into `folder`; needs gcc."""
    for name, source in (("libcuda.so.1", CUDA), ("libnvinfer.so.10", NVINFER)):
        command = ["gcc", "-shared", "-fPIC", "-xc", "-", "-o", folder / name]
        subprocess.run(command, input=source.encode(), check=True)


@dataclass(frozen=True)
class Jetson:
    """Where its libraries lie, and how to run a command on it. It has an Orin and TensorRT 10.3."""

    libraries: Path

    @classmethod
    def make(cls, folder: Path, plan: bytes) -> Jetson:
        """One whose TensorRT answers every build with `plan`; needs gcc."""
        folder.mkdir()
        compile_libraries(folder)
        (folder / "tensorrt.py").write_text(TENSORRT)
        (folder / "plan.onnx").write_bytes(plan)
        return cls(folder)

    @property
    def env(self) -> dict[str, str]:
        """What a process gets that runs on it, in the checkout's root."""
        paths = [str(self.libraries), str(Path.cwd() / "tests"), str(Path.cwd())]
        return {"LD_LIBRARY_PATH": str(self.libraries), "PYTHONPATH": os.pathsep.join(paths)}

    def hold(self) -> None:
        """Let builds wait in their middle until `go_on`."""
        (self.libraries / "hold").touch()

    def go_on(self) -> None:
        """Let builds end."""
        (self.libraries / "hold").unlink()

    @property
    def builds(self) -> int:
        """How many builds were begun."""
        file = self.libraries / "builds"
        return len(file.read_text()) if file.exists() else 0

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """`repo-builder` with these arguments."""
        return subprocess.Popen(
            [sys.executable, "-m", "repo_builder", *map(str, arguments)],
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err
