"""What a net is made from, as steps are given it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from repo_builder.base.artifact import Tensor


@dataclass(frozen=True)
class Net:
    """A PyTorch net: `function(**kwargs)` of the Python file `file` returns it.

    `inputs` have whole shapes; with `batch` dimension 0 of all inputs and outputs counts rows, and
    what stands there is one size of many. `outputs` names what it returns: see `forward.call`.
    """

    file: str
    function: str
    kwargs: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    batch: bool

    @property
    def factory(self) -> str:
        """As a spec names it: `nets.py:make`."""
        return f"{self.file}:{self.function}"

    def shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Input -> its shape with so many rows, where it has a batch dimension."""
        sizes = {
            t.name: tuple(size for size in t.shape if isinstance(size, int)) for t in self.inputs
        }
        return {name: (rows, *shape[1:]) if self.batch else shape for name, shape in sizes.items()}
