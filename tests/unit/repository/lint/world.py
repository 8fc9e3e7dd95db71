"""Small repositories on disk, from a few lines each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
import onnx.parser

from repo_builder.repository.lint import Finding, lint
from repo_builder.targets import Target

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
MLP = (
    HEAD + "g (float[N, 4] x) => (float[N, 2] y) <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> "
    "{ y = MatMul(x, w) }"
)
STATIC = HEAD + "g (float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }"
SCALAR = HEAD + "g (float x) => (float y) { y = Relu(x) }"

TENSORS = """
input { name: "x" data_type: TYPE_FP32 dims: [4] }
output { name: "y" data_type: TYPE_FP32 dims: [2] }
"""
BATCHED = 'backend: "onnxruntime"\nmax_batch_size: 8\n' + TENSORS
THREADS = 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }\n'
GOOD = BATCHED + THREADS + "instance_group { kind: KIND_CPU count: 1 }\n"
PYTHON = 'backend: "python"\nmax_batch_size: 8\n' + TENSORS

MODEL_PY = b"class TritonPythonModel:\n    pass\n"


@dataclass(frozen=True)
class World:
    """A model called `m`: its config, its files, the models beside it, and the target.

    A file's content is bytes, or the text of an ONNX model; None is a folder.
    """

    config: str | bytes | None = GOOD
    files: dict[str, str | bytes | None] = field(default_factory=lambda: {"1/model.onnx": MLP})
    beside: dict[str, World] = field(default_factory=dict)
    target: Target | None = None

    def with_files(self, **files: str | bytes | None) -> World:
        return replace(self, files=files)

    def write(self, root: Path, name: str = "m") -> Path:
        folder = root / name
        folder.mkdir(parents=True)
        if self.config is not None:
            content = self.config if isinstance(self.config, bytes) else self.config.encode()
            (folder / "config.pbtxt").write_bytes(content)
        for path, content in self.files.items():
            file = folder / path
            if content is None:
                file.mkdir(parents=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            model = onnx.parser.parse_model(content) if isinstance(content, str) else None
            file.write_bytes(model.SerializeToString() if model else content)
        for other, world in self.beside.items():
            world.write(root, other)
        return root

    def lint(self, root: Path, name: str = "m") -> list[Finding]:
        found = lint([self.write(root, name)], target=self.target)
        return [finding for finding in found if finding.model == name]


def python(config: str = PYTHON, **beside: World) -> World:
    """A model of the python backend, for rules that need no model file to be read."""
    return World(config, {"1/model.py": MODEL_PY}, beside)
