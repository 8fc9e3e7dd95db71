"""Folders with the code of small nets, and the records that say how they are made."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from repo_builder.base.artifact import Tensor
from repo_builder.nets.types import Net

LINEAR = "import torch\n\ndef make(classes=3):\n    return torch.nn.Linear(4, classes)\n"


def code(folder: Path, text: str = LINEAR, **others: str) -> Path:
    """`folder` with the code of a net in `nets.py`, and other files by name: `blocks="..."`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"nets": text, **others}.items():
        file = folder / f"{name.replace('__in__', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(content))
    return folder


def net(**given: Any) -> Net:
    """How the net in `nets.py` is made: one input `x` of rows of 4, one output `y`."""
    base: dict[str, Any] = {
        "file": "nets.py",
        "function": "make",
        "kwargs": {},
        "inputs": (Tensor("x", "FP32", (1, 4)),),
        "outputs": ("y",),
        "batch": True,
    }
    return Net(**{**base, **given})
