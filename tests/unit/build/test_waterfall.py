"""A waterfall of a budget."""

from __future__ import annotations

from repo_builder.build.report import waterfall
from repo_builder.build.report.types import Budget


def test_stages_follow_each_other() -> None:
    stages = {"capture": 10.0, "transfer": 0.0, "preprocess": 5.0, "infer": 4.0, "postprocess": 1.0}
    free, held = Budget(stages, 20.0, None), Budget(stages, 20.0, 25.0)
    found = waterfall.of(free)
    assert [(one.name, one.left, one.width) for one in found] == [
        ("capture", 0.0, 50.0), ("preprocess", 50.0, 25.0), ("infer", 75.0, 20.0),
        ("postprocess", 95.0, 5.0),
    ]  # fmt: skip
    assert [one.given for one in found] == [True, False, False, False]
    assert waterfall.limit(free) is None
    assert (waterfall.limit(held), waterfall.of(held)[-1].left) == (100.0, 76.0)
    assert waterfall.limit(Budget(stages, 20.0, 5.0)) == 25.0
    far = Budget(stages, 20.0, 250.0)
    assert (waterfall.limit(far), waterfall.of(far)) == (None, found)
    assert waterfall.of(Budget({"capture": 0.0}, 0.0, None)) == ()
