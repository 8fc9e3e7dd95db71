"""Which models and pipelines go where Triton would refuse some of their files."""

from __future__ import annotations

from typing import Any

from repo_builder.base.artifact import Artifact, Entry
from repo_builder.build.publish import _with_pipelines
from repo_builder.repository.publish import Model
from repo_builder.spec.types import Version

ENTRY = Entry("key", {}, Artifact({}), {}, 0.0)


def model(name: str, pipeline: str = "", *uses: str) -> Model:
    uses_of = dict.fromkeys(uses, "tensors")
    record: dict[str, Any] = {"pipeline": pipeline, "uses": uses_of} if pipeline else {}
    return Model(name, Version(1, 0, 0), {}, ENTRY, record)


MODELS = [
    model("digits"),
    model("shapes"),
    model("read", "read", "digits"),
    model("read-pre", "read", "digits"),
    model("find", "find", "shapes"),
]


def test_a_model_takes_the_pipelines_that_use_it() -> None:
    assert _with_pipelines(MODELS, {"digits": "bad dims"}) == {
        "digits": "bad dims",
        "read": "not published: digits",
    }


def test_a_stage_takes_its_pipeline_and_no_model() -> None:
    assert _with_pipelines(MODELS, {"read-pre": "bad python"}) == {"read": "bad python"}
