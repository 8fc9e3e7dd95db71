"""A small repository in memory: what seeds are and what mutations change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MAIN = "@m"
"""The model that a case is about. Names start with @, which becomes the case's own prefix, since
one server loads the models of all cases."""

PYTHON_MODEL = b"""
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""


@dataclass(frozen=True)
class Repository:
    """Files by path below the repository; a content of None is an empty folder."""

    files: dict[str, bytes | None]

    @property
    def config(self) -> str:
        """The main model's config.pbtxt."""
        content = self.files[f"{MAIN}/config.pbtxt"]
        return content.decode() if content is not None else ""

    def with_config(self, text: str | bytes) -> Repository:
        """The same with another config of the main model."""
        content = text if isinstance(text, bytes) else text.encode()
        return Repository({**self.files, f"{MAIN}/config.pbtxt": content})

    def write(self, root: Path, prefix: str) -> str:
        """Write the repository below `root` and return the main model's name."""
        for path, content in self.files.items():
            file = root / path.replace("@", prefix)
            if content is None:
                file.mkdir(parents=True, exist_ok=True)
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.name == "config.pbtxt":
                content = content.replace(b"@", prefix.encode())  # noqa: PLW2901
            file.write_bytes(content)
        return MAIN.replace("@", prefix)


def python(config: str, **files: bytes) -> Repository:
    """A repository with one model of the python backend."""
    inside = {f"{MAIN}/{path}": content for path, content in files.items()}
    return Repository(
        {
            f"{MAIN}/config.pbtxt": config.encode(),
            f"{MAIN}/1/model.py": PYTHON_MODEL,
            **inside,
        }
    )
