"""Models raised to later opsets answer as before, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from repo_builder.base.errors import ModelError
from repo_builder.introspect import opset, why_not_same
from repo_builder.steps import _onnx

OLD = {
    "Upsample 7": (
        7,
        'y = Upsample<mode = "MODE", scales = [1.0, 1.0, 2.0, 3.0]>(x)',
        "",
    ),
    "Upsample 9": (9, 'y = Upsample<mode = "MODE">(x, s)', "1, 1, 2, 3"),
    "Resize 10": (10, 'y = Resize<mode = "MODE">(x, s)', "1, 1, 2, 3"),
    "Resize 10, odd": (10, 'y = Resize<mode = "MODE">(x, s)', "1, 1, 1.5, 2.5"),
    "Resize 10, smaller": (10, 'y = Resize<mode = "MODE">(x, s)', "1, 1, 0.5, 0.4"),
}


def _old(case: str, mode: str) -> onnx.ModelProto:
    version, text, scales = OLD[case]
    stored = f"<float[4] s = {{{scales}}}>" if scales else ""
    return onnx.parser.parse_model(
        f'<ir_version: 4, opset_import: ["" : {version}]> g (float[N, 2, 7, 9] x) => '
        f"(float[N, 2, a, b] y) {stored} {{ {text.replace('MODE', mode)} }}"
    )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("case", OLD)
def test_images_are_resized_by_the_same_rule(tmp_path: Path, case: str, mode: str) -> None:
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    model = _old(case, mode)
    onnx.save(model, before)
    onnx.save(opset.converted(model, 13), after)
    onnx.checker.check_model(after)
    assert why_not_same(before, after) == ""


def test_a_conversion_that_changes_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnx's converter does it alone: half pixels, which Resize-10 has not."""
    monkeypatch.setattr(opset, "_say_coordinates", lambda _: None)
    with pytest.raises(ModelError, match="from opset 10 to 13: output 'y' differs; export it with"):
        _onnx.raised(_old("Resize 10", "linear"), 13, "optimize: {precision: fp32}")


@pytest.mark.parametrize("version", range(7, 13))
def test_what_is_raised_is_valid_there(version: int) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 3, opset_import: ["" : {version}]> g (float[N, 3, 4] x) => '
        "(float[N, 3, 4] y) { a = Softmax<axis = 1>(x) y = Tanh(a) }"
    )
    raised = _onnx.raised(model, 13, "optimize: {precision: fp32}")
    onnx.checker.check_model(raised)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    flat = np.exp(x.reshape(2, 12))
    want = np.tanh(flat / flat.sum(axis=1, keepdims=True)).reshape(x.shape)
    session = onnxruntime.InferenceSession(raised.SerializeToString())
    np.testing.assert_allclose(session.run(None, {"x": x})[0], want, atol=1e-6)
