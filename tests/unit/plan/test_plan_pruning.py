"""Plans that prune: what is trained how long, what is compared with what, and what is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repo_builder import steps, targets
from repo_builder.base.artifact import Tensor
from repo_builder.plan import ArtifactRef, Pins, Plan, plan
from repo_builder.spec.pruning import Pruning
from repo_builder.spec.training import Training
from repo_builder.spec.types import (
    Evaluation,
    Gates,
    Optimize,
    Serving,
    Spec,
    TorchSource,
    Version,
)

CATALOG, DECLARATIONS = targets.load(), steps.declarations()
TOOLS = {tool: "1.0" for one in DECLARATIONS.values() for tool in one.tools}
CODE, WEIGHTS, EVALUATION = Path("/d/nets.py"), Path("/d/w.safetensors"), Path("/d/e.npz")
TRAIN, VALIDATION = Path("/d/t.npz"), Path("/d/v.npz")
TRAINING = Training(
    data=TRAIN,
    validation=VALIDATION,
    target="label",
    output="",
    loss="cross_entropy",
    own=None,
    epochs=10,
    batch_size=64,
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="cosine",
    weight_decay=0.0,
    early_stop=None,
    seed=0,
    threads=1,
)


def planned(
    pruning: Pruning | None, target: str = "cpu", weights: Path | None = WEIGHTS, **more: Any
) -> Plan:
    inputs = (Tensor("x", "FP32", (1, 4)),)
    source = TorchSource(CODE, "make", {}, weights, inputs, ("y",), batch=True)
    spec = Spec(
        name="net",
        version=Version(1, 0, 0),
        target=target,
        source=source,
        file=Path("/d/net.yaml"),
        calibration=None,
        evaluation=Evaluation(
            EVALUATION, "accuracy", labels={"label": "label"}, outputs={"scores": "y"}
        ),
        optimize=Optimize(train=TRAINING, prune=pruning, **more),
        gates=Gates(),
        serving=Serving(),
        preprocess=None,
    )
    files = {
        path: {path.name: (path, path.name)} for path in (EVALUATION, TRAIN, VALIDATION, WEIGHTS)
    }
    return plan(
        [spec], CATALOG, DECLARATIONS, Pins({**files, source: {"nets.py": (CODE, "c")}}, TOOLS)
    )


def node(the_plan: Plan, step: str) -> Any:
    return the_plan.nodes[the_plan.variants[0].steps[step]]


def epochs(the_plan: Plan, step: str) -> int:
    return int(node(the_plan, step).params["training"]["recipe"]["epochs"])


def test_a_net_is_pruned_and_tuned_in_parts_beside_a_twin() -> None:
    the_plan = planned(Pruning(0.6, iterations=3))
    shares = [node(the_plan, step).params["share"] for step in ("prune-1", "prune-2", "prune")]
    assert shares == pytest.approx([0.2, 0.4, 0.6])
    assert [epochs(the_plan, step) for step in ("train-1", "train-2", "train")] == [3, 3, 4]
    assert epochs(the_plan, "train-twin") == 10
    twin, cut = node(the_plan, "train-twin"), the_plan.variants[0].steps["prune"]
    assert (twin.params["fresh"], twin.inputs["weights"]) == (True, ArtifactRef(cut))
    choose = node(the_plan, "choose")
    assert choose.inputs["tuned"].key == the_plan.variants[0].steps["train"]
    assert choose.inputs["scratch"].key == twin.key
    assert node(the_plan, "export").inputs["weights"].key == choose.key


def test_a_net_without_weights_is_trained_first_and_its_twin_as_long_as_both() -> None:
    the_plan = planned(Pruning(0.5), weights=None)
    assert epochs(the_plan, "train-dense") == 10
    assert epochs(the_plan, "train-twin") == 20
    assert node(the_plan, "prune").inputs["weights"].key == node(the_plan, "train-dense").key
    assert (
        node(the_plan, "parent-export").inputs["weights"].key == node(the_plan, "train-dense").key
    )


def test_the_parent_is_built_alike_timed_in_turns_and_scored() -> None:
    the_plan = planned(Pruning(0.5))
    parent = node(the_plan, "parent-compile-onnxruntime")
    assert node(the_plan, "profile").inputs["parent"] == ArtifactRef(parent.key)
    assert parent.params == node(the_plan, "compile-onnxruntime").params
    scored = node(the_plan, "parent-reference")
    assert node(the_plan, "verify").inputs["parent"] == ArtifactRef(scored.key)
    assert scored.inputs["model"] == ArtifactRef(node(the_plan, "parent-import").key)
    assert set(node(the_plan, "parent-export").inputs["weights"].files) == {WEIGHTS.name}
    assert "parent-verify" not in the_plan.variants[0].steps
    assert "parent-import" not in planned(None).variants[0].steps


def test_where_nothing_is_timed_the_parent_is_not_compiled() -> None:
    steps_there = planned(Pruning(0.5), "jetson-orin-nx").variants[0].steps
    assert "parent-reference" in steps_there
    assert not [step for step in steps_there if step.startswith("parent-compile")]


def test_targets_share_a_pruned_net_unless_their_own_time_decides() -> None:
    def key(target: str, **asked: Any) -> str:
        return planned(Pruning(0.5, **asked), target).variants[0].steps["prune"]

    assert key("cpu") == key("cpu-openvino")
    assert key("cpu", of="latency") != key("cpu-openvino", of="latency")
    assert key("cpu") != key("cpu", criterion="taylor")
    assert "data" not in node(planned(Pruning(0.5)), "prune").inputs
    assert "data" in node(planned(Pruning(0.5, criterion="taylor")), "prune").inputs
