"""`stage-python`: a stage of a pipeline as a model of Triton's python backend."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from repo_builder.base import resources
from repo_builder.base.errors import ModelError
from repo_builder.client.models import preprocess
from repo_builder.steps._data import NUMPY_TYPES


@dataclass(frozen=True)
class Params:
    """`params`: those of the kind; of `preprocess` a recipe and Triton's type of its tensor."""

    kind: Literal["preprocess", "top_k"]
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Inputs:
    """None: all is in the parameters."""


@dataclass(frozen=True)
class Facts:
    """Nothing is found out."""


def sources(kind: str) -> list[Path]:
    """The files that a stage of this kind is made of, besides `stage.json`.

    `model.py` is what Triton loads. It makes the `Stage` of the `stage.py` beside it, which knows
    nothing of Triton: `Stage(folder).run(feeds) -> outputs`, arrays by name with rows first. They
    need numpy, and Pillow for images, and nothing of this package.
    """
    folder = resources.folder("templates") / "stages"
    own = [folder / "model.py", folder / kind / "stage.py"]
    return [*own, Path(preprocess.__file__)] if kind == "preprocess" else own


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Write the stage's sources, and `stage.json` with its parameters."""
    for path in sources(params.kind):
        shutil.copyfile(path, out / path.name)
    said = dict(params.params)
    if params.kind == "preprocess":
        if said["dtype"] == "BF16":
            raise ModelError("numpy makes no BF16 of an image; export the model with FP32 inputs")
        said["dtype"] = NUMPY_TYPES[said["dtype"]]
    text = json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (out / "stage.json").write_text(text, encoding="utf-8")
    return Facts()
