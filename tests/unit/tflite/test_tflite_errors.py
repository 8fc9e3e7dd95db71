"""What cannot be written as TFLite says which node, why, and a way out; all places at once."""

from __future__ import annotations

from pathlib import Path

import nets
import numpy as np
import pytest
from qdq_models import Net, quantize

from repo_builder.base.errors import ModelError
from repo_builder.tflite import OPS, write


def test_operators_outside_the_list_are_counted_by_kind(tmp_path: Path) -> None:
    net = Net(1, 4, 6, 6)
    x = net.op("Erf", net.op("Erf", net.conv("x", 4, 4, 1, 1)))
    model = net.model(net.op("Mod", x, net.constant(np.float32(3)), fmod=1))
    model = quantize(model, tmp_path, op_types_to_quantize=[*OPS, "Erf", "Mod"])
    with pytest.raises(ModelError) as caught:
        write(model)
    first, second = map(str, caught.value.problems)
    assert first == (
        "int8 TFLite has no Erf (2 nodes, first 'erf1'); use Relu or HardSwish instead of GELU"
    )
    assert second.startswith("int8 TFLite has no Mod (1 node, first 'mod3'); replace it")


def test_a_dynamic_dimension_is_named(tmp_path: Path) -> None:
    net = Net("N", 3, 8, "width")
    model = quantize(net.model(net.conv("x", 3, 4, 1, 1)), tmp_path, rows=[np.zeros((1, 3, 8, 8))])
    with pytest.raises(ModelError, match=r"input 'x': dimension 3 is dynamic \(width\)"):
        write(model)


def test_a_float_model_is_refused() -> None:
    with pytest.raises(ModelError, match="input 'x': tensor 'x' is not quantized"):
        write(nets.plain_cnn())


def test_an_excluded_node_is_named(tmp_path: Path) -> None:
    model = quantize(nets.plain_cnn(), tmp_path, nodes_to_exclude=["conv3"])
    with pytest.raises(ModelError, match="Conv node 'conv3'"):
        write(model)


def test_grouped_convolutions_have_a_way_out(tmp_path: Path) -> None:
    net = Net(1, 8, 6, 6)
    model = quantize(net.model(net.conv("x", 8, 8, 3, 3, group=2)), tmp_path)
    with pytest.raises(ModelError, match="Conv node 'conv0': 2 groups over 8 channels; use group"):
        write(model)
