"""Where the sizes of open dimensions come from, and what is said where they do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from test_plan import CALIBRATION, CATALOG, DECLARATIONS, EVALUATION, SOURCE, pins, spec

from repo_builder.base.artifact import Interface, TensorType
from repo_builder.base.errors import SpecError
from repo_builder.plan import plan, sizes
from repo_builder.spec.ends import Preprocess

IMAGE: Mapping[str, Any] = {"input": "x", "size": [320, 240], "color": "rgb", "layout": "NCHW"}


def known(
    shape: tuple[int | str, ...] = ("N", 3, "h", "w"),
    arrays: Mapping[Path, tuple[int, ...]] = {},
    **more: tuple[int | str, ...],
) -> Any:
    ports = {name: TensorType("FP32", s) for name, s in {"x": shape, **more}.items()}
    return dataclasses.replace(
        pins(),
        interfaces={SOURCE: Interface(ports, {})},
        arrays={path: {"x": a} for path, a in arrays.items()},
    )


def found(the_spec: Any, the_pins: Any, *, static: bool = False) -> dict[str, int]:
    return sizes.of(the_spec, the_pins, static=static)


def test_the_spec_says_more_than_the_image_and_that_more_than_data() -> None:
    image = Preprocess(IMAGE)
    data = {EVALUATION: (9, 3, 64, 48), CALIBRATION: (5, 3, 32, 16)}
    assert found(spec(), known()) == {}
    assert found(spec(evaluation=None), known(arrays=data)) == {"h": 32, "w": 16}
    assert found(spec(), known(arrays=data)) == {"h": 64, "w": 48}
    assert found(spec(preprocess=image), known(arrays=data)) == {"h": 320, "w": 240}
    said = spec(preprocess=image, sizes={"w": 8})
    assert found(said, known(arrays=data)) == {"h": 320, "w": 8}


def test_dimensions_without_a_name_go_by_position() -> None:
    the_pins = known(("", 3, "", ""))
    assert found(spec(sizes={"x": (None, 3, 320, 240)}), the_pins) == {"x[2]": 320, "x[3]": 240}
    assert found(spec(sizes={"x": (4, None, 320, 240)}), the_pins)["x[0]"] == 4
    assert found(spec(sizes={"x[2]": 7}), the_pins) == {"x[2]": 7}


def test_stacked_data_also_has_dimension_0() -> None:
    the_pins = known((2, "N", 8), {CALIBRATION: (64, 2, 3, 8)})
    assert found(spec(evaluation=None), the_pins) == {"N": 3}


def test_a_static_toolchain_gets_a_batch_of_1_where_it_is_another_input_s_too() -> None:
    the_pins = known(("N", 6), state=(2, "N", 8))
    assert found(spec(), the_pins) == {}
    assert found(spec(), the_pins, static=True) == {"N": 1}


def test_what_does_not_fit_is_said_at_once() -> None:
    wrong = {"hight": 3, "y": (1,), "x": (None, 4, 320, 240), "state": (1, 1)}
    with pytest.raises(SpecError) as caught:
        found(spec(sizes=wrong), known(state=(1, "t", 2)))
    assert [str(problem).partition("sizes.")[2] for problem in caught.value.problems] == [
        "hight: the model has no open dimension 'hight'; one of: N, h, t, w",
        "y: the model has no input 'y'; one of: state, x",
        "x: dimension 1 of the input is fixed at 3, not 4; write 3 or null",
        "state: 2 sizes for an input of 3 dimensions, [1, 't', 2]; write one for each, or null",
    ]


@pytest.mark.parametrize(
    ("target", "fixed"),
    [
        ("cpu", False),
        ("cpu-openvino", False),
        ("intel-npu", True),
        ("snapdragon-qcs8275", True),
        ("jetson-orin-nx", True),
        ("tflite-micro", True),
        ("ethos-u55", True),
    ],
)
def test_every_target_gets_them(target: str, fixed: bool) -> None:
    the_spec = spec(target, sizes={"h": 320, "w": 320})
    made = plan([the_spec], CATALOG, DECLARATIONS, known())
    (variant,) = made.variants
    assert ("fix-shapes" in variant.steps) is fixed
    for step in {"import", "reference", "fix-shapes"} & variant.steps.keys():
        assert made.nodes[variant.steps[step]].params["sizes"] == {"h": 320, "w": 320}


def test_models_without_open_dimensions_share_their_steps_among_all_targets() -> None:
    specs = [spec(target) for target in ("cpu", "snapdragon-qcs8275", "jetson-orin-nx")]
    made = plan(specs, CATALOG, DECLARATIONS, known(("N", 3, 8, 8)))
    assert len({variant.steps["simplify"] for variant in made.variants}) == 1


def test_a_static_model_is_compared_at_its_own_sizes() -> None:
    """The batch is a state's second dimension too, which becomes 1 for the device."""
    the_pins = known(("N", 16), state=(2, "N", 8))
    made = plan([spec("cpu"), spec("intel-npu", precision="fp16")], CATALOG, DECLARATIONS, the_pins)
    on_cpu, on_npu = (
        made.nodes[variant.steps["reference"]].params["sizes"] for variant in made.variants
    )
    assert (on_cpu, on_npu) == ({}, {"N": 1})
