"""From a request to its plan, and which results of the plan a build reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from repo_builder import steps, targets
from repo_builder.base.artifact import Contents
from repo_builder.base.errors import ModelError, UsageError
from repo_builder.build import latency
from repo_builder.build.request import Request
from repo_builder.plan import Plan, Variant, plan
from repo_builder.repository import multi_target
from repo_builder.run.pin import contents, pin
from repo_builder.run.store import Store
from repo_builder.spec.load import Specs, load, select
from repo_builder.spec.types import OnnxSource, TorchSource
from repo_builder.targets import Target


def read(request: Request) -> tuple[Specs, dict[str, Target]]:
    """The specs that a request names, and all targets by name."""
    catalog = targets.load(request.targets_dir)
    for name in request.targets:
        targets.pick(catalog, name)
    specs = select(load(request.specs, catalog), request.only, request.targets)
    for name, group in request.multi_target.items():
        for target in group:
            if target not in {spec.target for spec in specs}:
                raise UsageError(f"--together {name}: no spec is built for {target} here")
        multi_target.check(name, group, catalog)
    return specs, catalog


def planned(specs: Specs, catalog: Mapping[str, Target], store: Store) -> Plan:
    """The plan that builds `specs`."""
    declarations = steps.declarations()
    return plan(specs, catalog, declarations, pin(specs, declarations, store))


def wanted(the_plan: Plan, refusals: Mapping[str, ModelError]) -> list[str]:
    """The keys whose results a build reads; what they need follows from the plan.

    Of what `refusals` names, and of what would need it, nothing is wanted.
    """
    models = [
        key
        for variant in the_plan.variants
        if variant.compiled_key not in refusals
        for step, key in variant.steps.items()
        if step in _READ or step == variant.compiled
    ]
    pipelines = [
        key
        for pipeline in the_plan.pipelines
        if refusals.keys().isdisjoint(model.compiled_key for model in pipeline.models.values())
        for key in (*pipeline.stage_keys.values(), pipeline.steps[pipeline.run])
    ]
    return models + pipelines


def measurements(the_plan: Plan, store: Store) -> list[str]:
    """The keys of the latencies to measure again: of every model, of pipelines the doubtful ones.

    A pipeline is tried and measured in one step, which is not run for its figure alone if that is
    good.
    """
    models = [v.steps["profile"] for v in the_plan.variants if "profile" in v.steps]
    pipelines = [pipeline.steps[pipeline.run] for pipeline in the_plan.pipelines]
    made = [(key, store.get(key)) for key in pipelines]
    return models + [key for key, entry in made if entry and _doubtful(entry.facts)]


def _doubtful(facts: Any) -> bool:
    return bool(latency.of(facts, facts).doubt)


def refused(the_plan: Plan, store: Store) -> dict[str, ModelError]:
    """The models that their targets' runtimes cannot take, by the key of the step that compiles.

    Asked before any work, and only of models that the store does not have. `plan` and
    `targets advise` ask the same tables.
    """
    found: dict[str, ModelError] = {}
    for variant in the_plan.variants:
        key = variant.compiled_key
        if key in found or store.get(key) is not None:
            continue
        if refusal := _refusal(variant, the_plan, store):
            found[key] = refusal
    return found


def refuse_exported(the_plan: Plan, store: Store) -> Callable[[str], ModelError | None]:
    """Asked of a key that is about to be made: as `refused`, for models that were exported since.

    What a PyTorch net consists of in ONNX is not known before.
    """
    new = {
        variant.compiled_key: variant
        for variant in the_plan.variants
        if isinstance(variant.spec.source, TorchSource)
    }

    def refuse(key: str) -> ModelError | None:
        return _refusal(new[key], the_plan, store) if key in new else None

    return refuse


def _refusal(variant: Variant, the_plan: Plan, store: Store) -> ModelError | None:
    """Why the target's runtime cannot take the model; None where it can, or that is not known."""
    # Imported for a model that is new: a build with nothing to do reads no table.
    from repo_builder.targets import support

    uses = _uses(variant, store)
    on_cpu = {v.spec.name for v in the_plan.variants if v.target.runtime == "onnxruntime"}
    table = support.of(variant.target.runtime)
    problems = table.problems(uses, elsewhere=variant.spec.name not in on_cpu) if uses else []
    if len(problems) > 1:
        return ModelError("the target's runtime cannot take the model:", problems)
    return ModelError(str(problems[0])) if problems else None


def _uses(variant: Variant, store: Store) -> Contents | None:
    """What the model's ONNX uses; None where it cannot be read, or is not exported yet."""
    source = variant.spec.source
    if isinstance(source, OnnxSource):
        return contents(source.file, store)
    exported = store.get(variant.steps["export"])
    if exported is None:
        return None
    from pydantic import TypeAdapter

    return TypeAdapter(Contents).validate_python(exported.facts["contents"])


_READ = (
    "train",
    "prune",
    "choose",
    "import",
    "simplify",
    "fix-shapes",
    "near",
    "fp16-ranges",
    "sensitivity",
    "quantize",
    "compile-onnxruntime",
    "compile-openvino",
    "compile-fp32",
    "verify",
    "score",
    "calibrate-confidence",
    "warm-up",
    "profile",
)
