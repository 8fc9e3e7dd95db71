"""From what the steps made of a pipeline@target: its row of the report, and what to publish."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from repo_builder import __version__
from repo_builder.base.artifact import Entry, Interface, TensorType
from repo_builder.base.digest import Json
from repo_builder.build import gates, latency
from repo_builder.build.assemble import row_start, template_digest
from repo_builder.build.report.types import Budget, Row, Status
from repo_builder.plan import PipelineVariant, Plan
from repo_builder.repository.publish import Model
from repo_builder.run.execute import Outcome
from repo_builder.run.store import Store
from repo_builder.spec.types import TorchSource

_STAGE_OF = {"model": "infer", "preprocess": "preprocess"}


def stage_of(kind: str) -> str:
    """The stage of a budget that a step of this kind belongs to."""
    return _STAGE_OF.get(kind, "postprocess")


def assemble(
    variant: PipelineVariant,
    plan: Plan,
    outcome: Outcome,
    models: Mapping[str, Model],
    gated: Collection[str],
    store: Store,
) -> tuple[Row, list[Model]]:
    """The row of a pipeline, and its models (stages and ensemble) where all went well.

    `models` are the good models of the target by name, `gated` the names of those that fail a gate.
    """
    spec = variant.spec
    base = row_start(variant, outcome, "pipeline")
    for key in variant.steps.values():
        if key in outcome.errors:
            return Row(**base, status="failed", reason=str(outcome.errors[key])), []
    run = outcome.entries.get(variant.steps[variant.run])
    missing = [name for name in spec.models if name not in models]
    if missing or run is None:
        why = f"not built: {', '.join(missing)}" if missing else "not built: stopped before"
        kept_back = bool(missing) and set(missing) <= set(gated)
        return Row(**base, status="gate failed" if kept_back else "failed", reason=why), []
    made = {name: outcome.entries[key] for name, key in variant.stage_keys.items()}
    size = sum(entry.artifact.size for entry in made.values())
    budget = None if variant.why_not_executed else _budget(variant, run.facts)
    facts: Any = run.facts
    timed = latency.of(facts, facts) if budget else None
    measured: dict[str, Any] = {
        "size": size,
        "level": "prepared" if variant.why_not_executed else "executed",
        "level_reason": variant.why_not_executed
        or "ran on its sample in the runtimes that serve it",
        "budget": budget,
        "latency": timed,
    }
    spent = {**budget.stages, "total": budget.total_ms} if budget else {}
    limits = gates.budget_gates(_alone(spec.latency_budget_ms), spent, timed.doubt if timed else "")
    measured["gates"] = limits
    if broken := gates.over_budget(limits):
        return Row(**base, **measured, status="gate failed", reason=broken), []
    status: Status = "built" if base["ran"] else "cached"
    where = f"{spec.target}/models/{spec.name}"
    row = Row(**base, **measured, status=status, digest=run.artifact.digest[:12], folder=where)
    interfaces = _interfaces(variant, outcome)
    return row, _models(variant, plan, interfaces, made, run, models, store)


def _alone(budget: Mapping[str, float]) -> dict[str, float]:
    """The limits that one request after the other is held to: none waits in a queue."""
    return {name: limit for name, limit in budget.items() if name != "queue"}


def _budget(variant: PipelineVariant, facts: Mapping[str, Any]) -> Budget:
    """Times by the five stages of a budget; what a build cannot measure is as the spec says."""
    spent = {"preprocess": 0.0, "infer": 0.0, "postprocess": 0.0}
    for timing in facts["stages"]:
        spent[stage_of(timing["kind"])] += timing["ms"]
    spec = variant.spec
    given = {"capture": spec.capture_ms, "transfer": spec.transfer_ms}
    stages = {**given, **spent}
    return Budget(stages, sum(stages.values()), spec.latency_budget_ms.get("total"))


def _models(
    variant: PipelineVariant,
    plan: Plan,
    interfaces: Mapping[str, Interface],
    made: Mapping[str, Entry],
    run: Entry,
    models: Mapping[str, Model],
    store: Store,
) -> list[Model]:
    spec = variant.spec
    used = {name: models[name].texts["config.pbtxt"].decode() for name in spec.models}
    shaped_by: list[Json] = [
        __version__,
        template_digest(),
        repr(spec),
        repr(interfaces),
        used,
    ]
    texts = store.recall_texts(shaped_by)
    if texts is None:
        texts = _configs(variant, interfaces, used)
        store.remember_texts(shaped_by, texts)
    uses = {name: models[name].record["interface"] for name in spec.models}
    entries = {**{spec.part(name): entry for name, entry in made.items()}, spec.name: run}
    return [
        Model(
            name,
            spec.version,
            {"config.pbtxt": texts[name].encode()},
            entry,
            {
                "pipeline": spec.name,
                "uses": uses,
                "provenance": {
                    "steps": {step: plan.nodes[key].key for step, key in variant.steps.items()}
                },
            },
        )
        for name, entry in entries.items()
    ]


def _interfaces(variant: PipelineVariant, outcome: Outcome) -> dict[str, Interface]:
    """The tensors of every stage; of a PyTorch net those that its ONNX was found to have."""
    found = dict(variant.interfaces)
    for name, stage in variant.spec.stages.items():
        if stage.kind == "model" and isinstance(variant.models[stage.of].spec.source, TorchSource):
            imported = outcome.entries[variant.models[stage.of].steps["import"]]
            signature: Any = imported.facts["signature"]
            found[name] = Interface(
                *(
                    {t["name"]: TensorType(t["dtype"], tuple(t["shape"])) for t in signature[side]}
                    for side in ("inputs", "outputs")
                )
            )
    return found


def _configs(
    variant: PipelineVariant, interfaces: Mapping[str, Interface], models: Mapping[str, str]
) -> dict[str, str]:
    """The texts of the pipeline's configs by name, from those of its models."""
    from repo_builder.repository import ensemble, render

    spec = variant.spec
    backends = {
        name: _backend(variant, name) for name in spec.stages if spec.stages[name].kind != "model"
    }
    parts = [ensemble.Part.of(render.parse(text)) for text in models.values()]
    configs = ensemble.decide(spec, backends, interfaces, parts)
    return {name: render.text(config) for name, config in configs.items()}


def _backend(variant: PipelineVariant, stage: str) -> str:
    """Triton's backend of a stage of ours."""
    if variant.spec.stages[stage].kind != "nms":
        return "python"
    return "openvino" if variant.target.backend == "openvino" else "onnxruntime"
