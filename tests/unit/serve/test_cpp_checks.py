"""Our Python-based backends refuse what Triton's C++ backends refuse, in the same words."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NoReturn

import pytest

from repo_builder.base.errors import MissingExtra
from repo_builder.serve import install


@pytest.fixture(scope="module")
def cpp(unavailable: Callable[[str], NoReturn]) -> Iterator[ModuleType]:
    """The module that lies beside the backends, with Triton's own triton_python_backend_utils."""
    try:
        utils = install.find().backends / "python"
    except MissingExtra as missing:
        unavailable(str(missing))
    added = [str(utils), str(install.OURS)]
    sys.path[:0] = added
    module = importlib.import_module("cpp_checks")
    # The stub adds its exception to the module.
    module.pb_utils.TritonModelException = ValueError
    yield module
    for path in added:
        sys.path.remove(path)


def config(
    *inputs: dict[str, Any],
    batch: int = 8,
    sequence: dict[str, Any] | None = None,
    **parameters: str,
) -> dict[str, Any]:
    return {
        "name": "m",
        "max_batch_size": batch,
        "input": list(inputs),
        "output": [],
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
        "sequence_batching": sequence or {},
    }


def tensor(name: str = "x", dims: tuple[str, ...] = ("4",), **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": "TYPE_FP32", "dims": dims, "optional": False, **more}


def control(name: str, **values: Any) -> dict[str, Any]:
    return {"control_input": [{"name": name, "control": [values]}]}


@pytest.mark.parametrize(
    ("text", "number"), [("2", 2), (" -3", -3), ("+4 threads", 4), ("0x2", 0), ("1.9", 1)]
)
def test_numbers_are_read_as_stoi_reads_them(cpp: ModuleType, text: str, number: int) -> None:
    assert cpp.integer(config(n=text), "n") == number


@pytest.mark.parametrize("text", ["", "two", "- 1"])
def test_no_number(cpp: ModuleType, text: str) -> None:
    with pytest.raises(ValueError, match=f"^failed to convert '{text}' to integral number$"):
        cpp.integer(config(n=text), "n")


def test_a_number_of_more_than_32_bits(cpp: ModuleType) -> None:
    with pytest.raises(ValueError, match="does not fit 32 bits"):
        cpp.integer(config(n="2147483648"), "n")


def test_switches(cpp: ModuleType) -> None:
    assert all(cpp.switch(config(s=text), "s", "0") for text in ("true", "ON", "1"))
    assert not any(cpp.switch(config(s=text), "s", "1") for text in ("False", "off", "0"))
    for text in ("", "2", "true ", "yes"):
        with pytest.raises(ValueError, match=f"^failed to convert '{text}' to boolean$"):
            cpp.switch(config(s=text), "s", "1")


def test_a_model_that_fits(cpp: ModuleType) -> None:
    inputs = {"x": cpp.Tensor("TYPE_FP32", [-1, 4]), "S": cpp.Tensor("TYPE_BOOL", [-1, 1])}
    started = control("S", kind="CONTROL_SEQUENCE_START", bool_false_true=[False, True])
    cpp.check_onnx(config(tensor(), sequence=started), inputs, {}, {})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too many": (
        config(tensor(), tensor("z")),
        "unable to load model 'm', configuration expects 2 inputs, model provides 1",
    ),
    "an optional input": (
        config(tensor(optional=True), batch=0),
        "unable to load model 'm', configuration expects 0 inputs, model provides 1",
    ),
    "unknown": (
        config(tensor("z")),
        "unexpected inference input 'z', allowed inputs are: w, x",
    ),
    "type": (
        config(tensor(data_type="TYPE_INT32")),
        "unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'x', "
        "model provides TYPE_FP32",
    ),
    "shape": (
        config(tensor(dims=("-1", "5")), batch=0),
        "model 'm', tensor 'x': the model expects 2 dimensions (shape [-1,4]) but the model "
        "configuration specifies 2 dimensions (shape [-1,5])",
    ),
    "no such control": (
        config(sequence=control("S", kind="CONTROL_SEQUENCE_END", int32_false_true=[0, 1])),
        "configuration specified sequence control 'S', but model does not provide that input",
    ),
    "a control's type": (
        config(sequence=control("c", kind="CONTROL_SEQUENCE_CORRID", data_type="TYPE_UINT64")),
        "unable to load model 'm', sequence control 'c', the model expects data-type FLOAT but "
        "the model configuration specifies data-type TYPE_UINT64",
    ),
    "a control's dims": (
        config(sequence=control("x", kind="CONTROL_SEQUENCE_START", fp32_false_true=[0, 1])),
        "unable to load model 'm', sequence control 'x' in model has dims [4] but dims [1] is "
        "expected",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_words_of_the_cpp_backend(cpp: ModuleType, case: str) -> None:
    given, words = REFUSED[case]
    name = "c" if case == "a control's type" else "x"
    shape = [-1, 1] if name == "c" else [-1, 4]
    required = {name: cpp.Tensor("TYPE_FP32", shape)}
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the text is compared below
        cpp.check_onnx(given, required, {"w": cpp.Tensor("TYPE_FP32", [4])}, {})
    assert str(refusal.value) == words


def test_dims_of_a_scalar(cpp: ModuleType) -> None:
    with pytest.raises(ValueError, match="scalar tensor 'x', should only provide 1 in the model"):
        cpp.check_onnx(config(tensor(), batch=0), {"x": cpp.Tensor("TYPE_FP32", [])}, {}, {})
    one = config(tensor(dims=("1",)), batch=0)
    cpp.check_onnx(one, {"x": cpp.Tensor("TYPE_FP32", [])}, {}, {})


def test_openvino_compares_no_batch(cpp: ModuleType) -> None:
    cpp.check_openvino_shape(config(), "input", "x", [2, 4], [4])
    cpp.check_openvino_shape(config(), "input", "x", [2, 4], [-1])
    with pytest.raises(ValueError, match=r"expects 2 dimensions \(shape \[2,4\]\)"):
        cpp.check_openvino_shape(config(batch=0), "input", "x", [2, 4], [-1, 4])
    with pytest.raises(ValueError, match=r"expects 0 dimensions \(shape \[\]\)"):
        cpp.check_openvino_shape(config(batch=0), "input", "x", [], [1])
