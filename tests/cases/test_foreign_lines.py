"""The lines that `init` prints for a Keras model, run as they stand: they write its ONNX."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from workplace import repo_builder

from repo_builder.introspect import declared

SAVE = """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
image = keras.Input((8, 8, 3))
net = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
keras.Model(image, keras.layers.Dense(2)(net)).save("net.keras")
"""


def test_the_lines_for_keras_write_onnx(
    tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    if importlib.util.find_spec("keras") is None:
        unavailable("keras is not installed")
    python(SAVE, tmp_path)
    ended = repo_builder("init", "net.keras", cwd=tmp_path)
    assert ended.returncode == 5
    first, _, lines = ended.stderr.partition("\n\n")
    assert "net.keras is a Keras model" in first
    python(lines, tmp_path)
    interface = declared.interface(tmp_path / "net.onnx")
    assert interface is not None
    shapes = {name: kind.shape for name, kind in {**interface.inputs, **interface.outputs}.items()}
    assert shapes == {"x": ("n", 8, 8, 3), "y": ("n", 2)}


def python(program: str, folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder
    )
    assert ended.returncode == 0, ended.stderr
