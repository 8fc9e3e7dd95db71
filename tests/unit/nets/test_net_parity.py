"""What counts as the same answer: hand-written ONNX beside a net, no exporter between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest
from net_kit import net

from repo_builder.base.errors import ModelError
from repo_builder.nets import parity


def prove(
    tmp_path: Path, answer: Any, body: str, result: str = "float[N, 4]", **given: Any
) -> parity.Parity:
    """Hold ONNX of this body, which computes `y` of `x`, against what `answer` computes."""
    import torch

    class Module(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return answer(x)

    header = '<ir_version: 8, opset_import: ["" : 18]> g'
    text = f"{header} (float[N, 4] x) => ({result} y) {{ {body} }}"
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    return parity.prove(Module().eval(), net(**given), tmp_path / "model.onnx", tmp_path)


TIMES = "c = Constant<value = float {{{}}}>() y = Mul(x, c)"


@pytest.mark.parametrize("factor", [1.0, 1.00005, 0.99995])
def test_differences_of_rounding_pass_and_are_told(tmp_path: Path, factor: float) -> None:
    proven = prove(tmp_path, lambda x: x, TIMES.format(factor))
    assert proven.batches == (1, 5)
    assert proven.difference["y"] == pytest.approx(abs(factor - 1), rel=0.01, abs=1e-7)


def test_larger_ones_are_refused_with_their_size_and_the_batch(tmp_path: Path) -> None:
    said = "its ONNX answers otherwise than PyTorch with 1 rows: 'y' by 0.0002 of its size"
    with pytest.raises(ModelError, match=said):
        prove(tmp_path, lambda x: x, TIMES.format(1.0002))


def test_small_columns_beside_large_ones_count_by_their_own_size(tmp_path: Path) -> None:
    import torch

    scale = torch.tensor([1000.0, 1000.0, 1000.0, 0.01])
    body = "c = Constant<value = float[4] {{1000, 1000, 1000, {}}}>() y = Mul(x, c)"
    assert prove(tmp_path, lambda x: x * scale, body.format(0.01)).difference["y"] < 1e-6
    assert prove(tmp_path, lambda x: x * scale, body.format(0.01001)).difference["y"] < 1e-4
    with pytest.raises(ModelError, match="'y' by "):
        prove(tmp_path, lambda x: x * scale, body.format(0.02))


def test_a_size_that_was_built_in_shows_at_the_other_batch(tmp_path: Path) -> None:
    first = "s = Constant<value = int64[1] {0}>() e = Constant<value = int64[1] {1}>()"
    with pytest.raises(ModelError, match="with 5 rows: 'y' has another shape, another type"):
        prove(tmp_path, lambda x: x, f"{first} y = Slice(x, s, e, s)", "float[M, 4]")
    assert prove(tmp_path, lambda x: x[:1], f"{first} y = Slice(x, s, e, s)", "float[M, 4]")


def test_nan_must_be_in_the_same_places(tmp_path: Path) -> None:
    import torch

    assert prove(tmp_path, torch.sqrt, "y = Sqrt(x)").difference["y"] < 1e-6
    with pytest.raises(ModelError, match="answers otherwise"):
        prove(tmp_path, torch.sqrt, "a = Abs(x) y = Sqrt(a)")


def test_whole_numbers_must_be_equal(tmp_path: Path) -> None:
    best = "y = {}<axis = 1, keepdims = 0>(x)"
    assert prove(tmp_path, lambda x: x.argmax(1), best.format("ArgMax"), "int64[N]")
    with pytest.raises(ModelError, match="'y' in 1 of its values"):
        prove(tmp_path, lambda x: x.argmax(1), best.format("ArgMin"), "int64[N]")


def test_a_net_that_magnifies_the_last_bit_of_its_inputs_may_differ_more(tmp_path: Path) -> None:
    def steep(x: Any) -> Any:
        return x * 30000 - (x * 30000).floor()

    body = "c = Constant<value = float {30000.003}>() a = Mul(x, c) f = Floor(a) y = Sub(a, f)"
    assert prove(tmp_path, steep, body).difference["y"] > parity.LIMITS["f4"]
    wrong = body.replace("30000.003", "30100.0")
    with pytest.raises(ModelError, match="answers otherwise"):
        prove(tmp_path, steep, wrong)


def test_chance_in_the_net_itself_is_told_as_such(tmp_path: Path) -> None:
    import torch

    with pytest.raises(ModelError, match="answers the same rows differently each time"):
        prove(tmp_path, torch.nn.functional.dropout, "y = Identity(x)")
