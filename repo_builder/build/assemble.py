"""From what the steps made of one model@target: its row of the report, and the model to publish."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from repo_builder import __version__
from repo_builder.base import digest, resources
from repo_builder.base.artifact import Entry, Signature
from repo_builder.base.digest import Json
from repo_builder.base.errors import DataError, GateFailed, RepoBuilderError
from repo_builder.build import beside, latency, near, proof, pruned, tuned
from repo_builder.build.gates import Measurements, failures, limits, too_few_rows, too_large
from repo_builder.build.report import confidence
from repo_builder.build.report.types import Energy, Row, Score, Status
from repo_builder.plan import Node, PipelineVariant, Plan, Variant
from repo_builder.plan.recipes import FP32
from repo_builder.repository.publish import Model
from repo_builder.run.execute import Outcome
from repo_builder.run.store import Store
from repo_builder.spec.types import Spec
from repo_builder.targets import Target
from repo_builder.trt.record import CONFIG as TENSORRT

CONFIDENCE = "calibrate-confidence"

_WARM_UP = "warm-up"
_DECIDES = 2
"""Raised whenever `repository.config` says something else of the same model, spec and target."""
_SHAPES = re.compile(r"(export|train|prune|join-(pre|post)process|join-signal)(-\d+|-dense)?")
"""Steps before `import`: their files of the user are the model's source."""
_INTERFACE = "interface"
"""Kept with the texts of a model; no file of it."""


def assemble(
    variant: Variant, plan: Plan, outcome: Outcome, store: Store, served: int
) -> tuple[Row, Model | None]:
    """The row of a variant, and its model where every step went well and every gate holds.

    `served` is how many versions of the model Triton serves at once.
    """
    spec = variant.spec
    base = row_start(variant, outcome, spec.optimize.scheme)
    entries = {step: outcome.entries.get(key) for step, key in variant.steps.items()}
    if (entry := entries["import"]) and (form := entry.facts.get("quantized")):
        base["precision"] = f"int8 ({form} source)"
    measured = _figures(entries, variant)
    failed, aside = beside.apart(variant, outcome.errors)
    if aside and "warnings" in measured:
        measured["warnings"] += (f"not shown beside fp32: {aside}",)
    if failed:
        # A device's own gate, such as the size of its flash, does not hide what is really broken.
        worst = next((f for f in failed if not isinstance(f, GateFailed)), None)
        status: Status = "failed" if worst else "gate failed"
        return Row(**base, **measured, status=status, reason=str(worst or failed[0])), None
    imported, compiled = entries["import"], entries[variant.compiled]
    verified, calibrated = entries["verify"], entries.get(CONFIDENCE)
    unsure = CONFIDENCE in variant.steps and calibrated is None
    cold = _WARM_UP in variant.steps and entries[_WARM_UP] is None
    timeless = "profile" in variant.steps and entries["profile"] is None
    timed_gates = (spec.gates.max_latency_ms, spec.optimize.prune)
    open_gate = timeless and any(gate is not None for gate in timed_gates)
    if imported is None or compiled is None or verified is None or unsure or cold or open_gate:
        return Row(**base, **measured, status="failed", reason="not built: stopped before"), None
    variant, used, unused = tuned.settled(variant, compiled.artifact.digest[:12])
    measured["notes"] += (used,) if used else ()
    measured["warnings"] += (unused,) if unused else ()
    score, timed = measured["score"], measured["latency"]
    broken = too_large(variant.target, _loaded(compiled, measured["size"]))
    broken += proof.failures(entries, verified)
    figures = Measurements(
        measured["size"],
        score,
        timed and timed.p50_ms,
        timed.doubt if timed else "",
    )
    measured["gates"] = limits(spec.gates, figures)
    measured["warnings"] += tuple(too_few_rows(spec.gates, score))
    broken += failures(spec.gates, figures) + pruned.failures(entries, timed)
    if broken:
        return Row(**base, **measured, status="gate failed", reason="; ".join(broken)), None
    status = "built" if base["ran"] else "cached"
    bundle = variant.target.backend is None
    where = f"{spec.target}/{'bundles' if bundle else 'models'}/{spec.name}"
    made = compiled.artifact.digest[:12]
    row = Row(**base, **measured, status=status, digest=made, folder=where)
    try:
        return row, _model(
            variant,
            plan,
            imported,
            entries.get("fix-shapes"),
            compiled,
            verified,
            calibrated,
            row,
            store,
            served,
            _changes(entries),
            pruned.record(entries),
        )
    except RepoBuilderError as failure:  # what the config cannot say of this model
        return Row(**base, **measured, status="failed", reason=str(failure)), None


def _figures(entries: Mapping[str, Entry | None], variant: Variant) -> dict[str, Any]:
    made, imported = entries[variant.compiled], entries["import"]
    verify, profile = entries.get("verify"), entries.get("profile")
    figures: dict[str, Any] = {
        "size": _size(made, variant) if made else None,
        "source_size": imported.artifact.size if imported else None,
        "score": None,
        "latency": None,
        "confidence": None,
    }
    if verify:
        facts: Any = verify.facts
        figures["difference"] = proof.differences(verify)
        figures["comparison"] = proof.comparison(entries, verify, variant.spec)
        figures["warnings"] = (*facts["warnings"], *proof.warnings(entries))
        figures["notes"] = (*proof.notes(entries), *pruned.notes(entries), *near.notes(entries))
        if facts["score"]:
            figures["score"] = near.from_source(Score(**facts["score"]), entries)
    if made and verify:
        level: Any = made.facts.get("level") or {
            "name": "prepared" if variant.why_not_executed else "executed",
            "reason": variant.why_not_executed
            or f"ran in {variant.target.runtime}, which serves it",
        }
        reason = "; ".join(filter(None, [level["reason"], *_changes(entries)]))
        figures["level"], figures["level_reason"] = level["name"], reason
    if profile:
        batches: Any = profile.facts["batches"]
        figures["latency"] = latency.of(profile.facts, batches[0])
        figures["rows_per_second"] = {str(b["batch"]): b["rows_per_second"] for b in batches}
        spent: Any = profile.facts.get("energy")
        figures["energy"] = Energy(**spent) if spent else None
    if made and imported and verify and _not_fp32(variant, imported):
        figures["fp32"] = beside.fp32(
            variant.target.runtime,
            figures["size"],
            beside.in_runtime(figures["score"], entries.get("score"), variant.spec),
            entries.get(FP32),
            profile,
            imported.artifact.size,
            figures["latency"].doubt if figures["latency"] else "",
        )
    if (calibrated := entries.get(CONFIDENCE)) and variant.spec.fallback:
        timed = figures["latency"]
        figures["confidence"] = confidence.of_entry(
            calibrated, variant.spec.fallback, timed and timed.p50_ms
        )
    return figures


def _not_fp32(variant: Variant, imported: Entry) -> bool:
    """Whether there is an fp32 to compare with: none of a source that came quantized."""
    return variant.spec.optimize.precision != "fp32" and not imported.facts.get("quantized")


def _changes(entries: Mapping[str, Entry | None]) -> list[str]:
    """What was done to the source that its user did not ask for, or not done that he did."""
    changes = []
    if imported := entries.get("import"):
        facts: Any = imported.facts
        if source := facts["signature"]["converted_from"]:
            changes.append(f"converted from opset {source} to {facts['opset']} at import")
        changes += facts["signature"]["mended"]
    if (simplified := entries.get("simplify")) and (why := simplified.facts["why_not"]):
        changes.append(f"not simplified ({why})")
    changes += proof.changes(entries)
    return changes


def _size(made: Entry, variant: Variant) -> int:
    """Bytes of the model: of a bundle only what goes into the firmware, not sources and texts."""
    if variant.target.backend is not None:
        return made.artifact.size
    size: Any = made.facts["size"]
    return int(size)


def _loaded(made: Entry, size: int) -> int:
    """Bytes that a device loads at once: of a model with its plan, the plan."""
    plan: Any = made.facts.get("plan_size") or size
    return int(plan)


def _source(nodes: Mapping[str, Node]) -> Json:
    """Digests of the user's files that the model comes from: an ONNX; or code, weights, data."""
    made = [node for name, node in nodes.items() if _SHAPES.fullmatch(name)] or [nodes["import"]]
    given = (files for node in made for files in node.recipe["inputs"].values())
    mine = (files for files in given if isinstance(files, Mapping))  # others are made by steps
    return {name: sha256 for files in mine for name, sha256 in files.items()}


def _labels(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as failure:
        raise DataError(f"{path}: {failure.strerror}") from None
    except UnicodeDecodeError as failure:
        raise DataError(f"{path}: labels must be UTF-8 text ({failure.reason})") from None


def _model(
    variant: Variant,
    plan: Plan,
    imported: Entry,
    fixed: Entry | None,
    compiled: Entry,
    verified: Entry,
    calibrated: Entry | None,
    row: Row,
    store: Store,
    served: int,
    changes: list[str],
    cut: Json,
) -> Model:
    spec = variant.spec
    texts: dict[str, bytes] = {}
    policy = _policy(calibrated)
    interface = ""
    if variant.target.backend is not None:
        texts = _texts(variant, imported, fixed, compiled, verified, policy, store, served)
        interface = texts.pop(_INTERFACE).decode()
    nodes = {step: plan.nodes[key] for step, key in variant.steps.items()}
    record: dict[str, Any] = {
        "interface": interface,
        "size": row.size,
        "precision": row.precision,
        "verification": {"level": row.level, "reason": row.level_reason},
        "score": row.score
        and {"metric": row.score.metric, "source": row.score.source, "built": row.score.built},
        "confidence": policy,
        "notes": list(row.notes),
        "compiler": compiled.facts,
        "tools": {
            tool: version
            for node in nodes.values()
            for tool, version in node.recipe["tools"].items()
        },
        "provenance": {
            "source": _source(nodes),
            "changes": changes,
            "steps": {step: node.key for step, node in nodes.items()},
        },
    }
    if cut is not None:
        record["pruned"] = cut
    bundle = variant.target.backend is None
    return Model(spec.name, spec.version, texts, compiled, record, bundle)


def _policy(calibrated: Entry | None) -> Json:
    """What the client reads, with the digest of how it was found."""
    if calibrated is None:
        return None
    facts: Any = calibrated.facts
    return {**facts["policy"], "calibration": facts["calibration"]}


def _texts(
    variant: Variant,
    imported: Entry,
    fixed: Entry | None,
    compiled: Entry,
    verified: Entry,
    policy: Json,
    store: Store,
    served: int,
) -> dict[str, bytes]:
    """config.pbtxt, the digest of its tensors, and the files of labels.

    What shaped the configs is what they are kept under.

    Where the TensorRT plan is built later, config.pbtxt lets ONNX Runtime serve until then, and
    `configs/tensorrt.pbtxt` is what Triton loads when it is there (see `trt.first_start`).
    """
    spec = variant.spec
    facts: Any = imported.facts
    signature: Any = facts["signature"]
    if signature["batched"] and not verified.facts["batched"]:
        signature = _unbatched(signature, str(verified.facts["why_not_batched"]))
    # As the built file declares them, with which Triton's onnxruntime backend compares the config.
    for entry in filter(None, (fixed, compiled)):
        for side in ("inputs", "outputs"):
            shapes: Any = entry.facts.get(side) or {}
            told = [{**t, "shape": shapes.get(t["name"], t["shape"])} for t in signature[side]]
            signature = {**signature, side: told}
    labels = {output: _labels(path) for output, path in spec.serving.labels.items()}
    targets = {"config.pbtxt": variant.target}
    if compiled.facts.get("plan_size") == 0:
        meanwhile = variant.target.model_copy(update={"runtime": "onnxruntime"})
        targets = {"config.pbtxt": meanwhile, f"configs/{TENSORRT}": variant.target}
    cores = variant.target.cores or len(os.sched_getaffinity(0))
    versions = [__version__, _DECIDES, template_digest()]
    shaped_by = [*versions, repr(spec), repr(targets), signature, labels, cores, policy, served]
    texts = store.recall_texts(shaped_by)
    if texts is None:
        texts = {
            name: _config(spec, target, signature, labels, cores, policy, served)
            for name, target in targets.items()
        }
        texts[_INTERFACE] = _interface(texts["config.pbtxt"])
        store.remember_texts(shaped_by, texts)
    for output, path in spec.serving.labels.items():
        texts[path.name] = labels[output]
    return {name: text.encode() for name, text in texts.items()}


def _unbatched(signature: Any, why: str) -> dict[str, Any]:
    """`signature` without its batch dimension, which varies then: it is tried with 1."""
    first = [tensor["shape"][0] or f"{tensor['name']}[0]" for tensor in signature["inputs"]]
    axes = {**signature["dynamic_axes"], **dict.fromkeys(first, 1)}
    return {**signature, "batched": False, "why_not_batched": why, "dynamic_axes": axes}


def _config(
    spec: Spec,
    target: Target,
    signature: Json,
    labels: Mapping[str, str],
    cores: int,
    policy: Json,
    served: int,
) -> str:
    from pydantic import TypeAdapter

    from repo_builder.repository import config, render

    decided = config.decide(
        spec,
        target,
        TypeAdapter(Signature).validate_python(signature),
        {output: text.splitlines() for output, text in labels.items()},
        cores=cores,
        confidence=policy,
        versions=served,
    )
    return render.text(decided)


def _interface(config_text: str) -> str:
    """A digest of the tensors that a config names, for pipelines that use the model."""
    from repo_builder.repository import render

    config = render.parse(config_text)
    tensors: list[Json] = [
        [str(tensor.name), int(tensor.data_type), list(tensor.dims)]
        for tensor in (*config.input, *config.output)
    ]
    return digest.of_json([bool(config.max_batch_size), tensors])


def row_start(
    variant: Variant | PipelineVariant, outcome: Outcome, precision: str
) -> dict[str, Any]:
    """The fields of a row that are known however the steps went."""
    spec = variant.spec
    return {
        "id": spec.id,
        "name": spec.name,
        "target": spec.target,
        "version": str(spec.version),
        "precision": precision,
        "ran": tuple(step for step, key in variant.steps.items() if key in outcome.ran),
    }


@cache
def template_digest() -> str:
    """The digest of the template of configs, which shapes them."""
    return digest.of_file(resources.folder("templates") / "config.pbtxt.j2")
