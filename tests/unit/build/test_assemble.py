"""From a signature to what is served."""

from __future__ import annotations

import dataclasses

from repo_builder.base.artifact import Signature, Tensor
from repo_builder.build import assemble


def test_a_batch_dimension_that_the_built_model_lost_is_one_that_varies() -> None:
    """Its name was in no table of sizes, and the warm-up's size was looked up in vain."""
    signature = Signature(
        inputs=(Tensor("x", "FP32", ("N", 16, "L")), Tensor("m", "FP32", ("", 16))),
        outputs=(Tensor("y", "FP32", ("N", 8)),),
        batched=True,
        dynamic_axes={"L": 32},
    )
    found = assemble._unbatched(dataclasses.asdict(signature), "rows change")
    assert found["dynamic_axes"] == {"L": 32, "N": 1, "m[0]": 1}
    assert (found["batched"], found["why_not_batched"]) == (False, "rows change")
