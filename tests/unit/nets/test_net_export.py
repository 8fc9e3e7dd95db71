"""Exported nets: names, shapes, opset, nothing of the machine, and answers like PyTorch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from net_kit import LINEAR, code, net

from repo_builder import steps
from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import ModelError
from repo_builder.introspect import runtime, walk
from repo_builder.nets.types import Net
from repo_builder.steps import _onnx, export_torch


def export(tmp_path: Path, text: str, how: Net) -> tuple[Path, Any]:
    out = tmp_path / "out"
    out.mkdir(parents=True)
    inputs = export_torch.Inputs(code=code(tmp_path / "code", text))
    return out / "model.onnx", steps.load("export").run(inputs, export_torch.Params(how), out)


def refused(tmp_path: Path, text: str, **given: Any) -> str:
    with pytest.raises(ModelError) as caught:
        export(tmp_path, text, net(**given))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


TWO = """
    import torch
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(4, 3)
            self.drop = torch.nn.Dropout(0.5)
        def forward(self, ids, x, scale=None):
            hidden = self.drop(self.inner(x))
            return {"unused": hidden.exp(), "z": hidden + ids, "best": hidden.argmax(-1)}
    def make():
        return Two().train()
"""


def test_names_of_the_spec_whatever_the_net_returns_and_takes(tmp_path: Path) -> None:
    inputs = (Tensor("x", "FP32", (1, 4)), Tensor("ids", "INT64", (1, 1)))
    path, facts = export(tmp_path, TWO, net(inputs=inputs, outputs=("best", "z")))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["x", "ids"]
    assert [value.name for value in model.graph.output] == ["best", "z"]
    assert {i.name for i in model.graph.initializer} >= {"inner.weight", "inner.bias"}
    assert not [node for node in walk.nodes(model) if node.op_type in ("Exp", "Dropout")]
    assert walk.opset(model) == facts.opset == 18
    assert (facts.parameters, facts.batches) == (15, (1, 5))
    assert facts.differs["best"] == 0
    assert 0 <= facts.differs["z"] < 1e-6
    session = runtime.session(str(path))
    fed = {"x": np.ones((7, 4), np.float32), "ids": np.full((7, 1), 3, np.int64)}
    best, z = session.run(["best", "z"], fed)
    assert (best.shape, z.shape) == ((7,), (7, 3))


def test_two_checkouts_give_equal_bytes_without_paths(tmp_path: Path) -> None:
    files = [export(tmp_path / place, LINEAR, net())[0] for place in ("one", "a/longer/place")]
    one, other = (file.read_bytes() for file in files)
    assert one == other
    for told in (b"/", b"nets.py", b"code", b"stack", b"torch.nn"):
        assert told not in one


def test_weights_beyond_what_a_file_holds_lie_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx, "INLINE_LIMIT", 1000)
    text = "import torch\ndef make(): return torch.nn.Linear(4, 300)\n"
    path, facts = export(tmp_path, text, net())
    assert path.stat().st_size < 1000 < path.with_suffix(".onnx.data").stat().st_size
    assert facts.parameters == 1500


def test_a_fixed_batch_is_exported_as_it_is(tmp_path: Path) -> None:
    text = "import torch\ndef make(): return torch.nn.Flatten(0)\n"
    path, facts = export(tmp_path, text, net(batch=False, inputs=(Tensor("x", "FP32", (2, 4)),)))
    (x,) = onnx.load(path).graph.input
    assert [dim.dim_value for dim in x.type.tensor_type.shape.dim] == [2, 4]
    assert facts.batches == (1,)


MODULE = """
    import torch
    class Net(torch.nn.Module):
        def forward(self, x):
            {body}
    def make():
        return Net()
"""


@pytest.mark.parametrize(
    ("body", "given", "said"),
    [
        (
            "return x * 2 if x.sum() > 0 else x",
            {},
            "nets.py:make cannot be exported: its path depends on the values of its inputs "
            "(nets.py, line 5)",
        ),
        ("return x, x * 2", {}, "nets.py:make returns 2 outputs, and `outputs` names 1; name each"),
        ("return {'z': x}", {}, "nets.py:make returns a dict without 'y'; one of: z"),
        ("return x.shape", {"outputs": ("a", "b")}, "nets.py:make returns a int as 'a', no tensor"),
        (
            "return torch.stack([x[i] for i in range(x.shape[0])])",
            {},
            "nets.py:make cannot be exported for any number of rows: 2 rows are built in; use x.sh",
        ),
        (
            "return torch.cummax(x, 1).values",
            {},
            "nets.py:make cannot be exported to ONNX: it has no operator for aten.cummax; write it",
        ),
        (
            "return torch.from_numpy(x.numpy())",
            {},
            "nets.py:make cannot be exported to ONNX: RuntimeError: .numpy() is not supported for "
            "tensor subclasses (nets.py, line 5); write it with others, or export it yourself and",
        ),
        ("return x.to('meta')", {}, "nets.py:make wants a GPU: 'y' is on meta; compute on the dev"),
        (
            "return x @ torch.ones(3, 3)",
            {},
            "nets.py:make failed on 'x' [2, 4]: RuntimeError: mat1 and mat2 shapes cannot",
        ),
        (
            "return torch.nn.functional.dropout(x, 0.5)",
            {},
            "nets.py:make answers the same rows differently each time ('y'); let chance play in",
        ),
    ],
)
def test_nets_that_cannot_be_exported_are_told(
    tmp_path: Path, body: str, given: dict[str, Any], said: str
) -> None:
    assert refused(tmp_path, MODULE.format(body=body), **given).startswith(said)


def test_an_export_that_answers_otherwise_is_not_handed_on(tmp_path: Path) -> None:
    """Nets may ask whether they are exported, and many do."""
    body = "return x * 1.01 if torch.compiler.is_exporting() else x"
    message = refused(tmp_path, MODULE.format(body=body))
    assert message.startswith("nets.py:make: its ONNX answers otherwise than PyTorch with 1 rows")
