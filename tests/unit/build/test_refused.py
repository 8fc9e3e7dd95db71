"""Models that a runtime cannot take, and what goes where Triton would refuse some files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from repo_builder import steps, targets
from repo_builder.base import digest
from repo_builder.base.artifact import Artifact, Contents, Entry, Operator, Tensor
from repo_builder.build.prepare import refuse_exported, refused
from repo_builder.build.publish import _with_pipelines
from repo_builder.plan import Pins, plan
from repo_builder.repository.publish import Model
from repo_builder.run.store import Store
from repo_builder.spec.types import Gates, Optimize, Serving, Spec, TorchSource, Version

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


def test_a_net_is_refused_as_soon_as_its_export_tells_what_it_uses(tmp_path: Path) -> None:
    inputs = (Tensor("x", "FP32", (1, 4)),)
    source = TorchSource(Path("nets.py"), "make", {}, None, inputs, ("y",), True)
    spec = Spec(
        "net", Version(1, 0, 0), "intel-npu", source, Path("net.yaml"), None, None,
        Optimize(precision="fp16"), Gates(), Serving(), None,
    )  # fmt: skip
    declarations = steps.declarations()
    tools = {tool for declaration in declarations.values() for tool in declaration.tools}
    code = {"nets.py": (Path("nets.py"), digest.of_bytes(b""))}
    pins = Pins({source: code}, dict.fromkeys(tools, "1.0"))
    the_plan = plan([spec], targets.load(), declarations, pins)
    (variant,) = the_plan.variants
    store = Store(tmp_path / "store")
    refuse = refuse_exported(the_plan, store)
    assert refused(the_plan, store) == {}
    assert refuse(variant.compiled_key) is None

    export = the_plan.nodes[variant.steps["export"]]
    uses = Contents((Operator("my.domain", "Mine", 2, "first"),), {"x": "FP32"})
    facts = {"contents": TypeAdapter(Contents).dump_python(uses, mode="json")}
    with store.in_use(), store.workspace() as folder:
        (folder / "out").mkdir()
        (folder / "out" / "model.onnx").write_bytes(b"x")
        store.put(export.key, export.recipe, folder / "out", facts, 1.0)
    told = refuse(variant.compiled_key)
    assert "Mine" in str(told)
    assert {key: str(error) for key, error in refused(the_plan, store).items()} == {
        variant.compiled_key: str(told)
    }
    assert refuse(export.key) is None
