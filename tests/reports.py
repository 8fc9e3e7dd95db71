"""A report with everything in it that the page, the Markdown and their tests show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from repo_builder.build.report.types import (
    Budget,
    Change,
    Changes,
    Comparison,
    Confidence,
    Difference,
    Fp32,
    Gate,
    Latency,
    OperatingPoint,
    Provenance,
    Report,
    Row,
    Score,
)

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)> `@all` | [a](b) \"'"
"""What a label, a reason or a name must never become more than text from."""

_AT = "2026-03-02T10:20:30Z"
_CPU = "Example 9000 with a name that is rather long @ 2.10GHz"


def report(logs: Path = Path("/var/logs")) -> Report:
    """Two models and a pipeline on several targets: good, new, in doubt, refused and failed.

    `logs` is where the logs of the failed are said to be, each named by its target.
    """
    rows = (*_classifier(), *_hostile(logs), _pipeline())
    repositories = {
        row.target: {"folder": f"build/{row.target}", "digest": "0" * 16, "changed": True}
        for row in rows
    }
    changes = (
        Change("parts@cpu", "rebuilt", {"size": (12_000, 10_900), "score": (0.96, 0.965)}),
        Change("old@cpu", "gone", {"size": (9_000, None)}),
    )
    provenance = Provenance(
        _AT, "1.2.3", "3.11.7", "Linux 6.1 x86_64", _CPU, 4, "0123456789ab-dirty",
        {"onnx": "1.20.0", "onnxruntime": "1.23.0"},
    )  # fmt: skip
    return Report(rows, repositories, 12.5, provenance, Changes("2026-03-01T09:00:00Z", changes))


def _classifier() -> tuple[Row, ...]:
    cpu = Row(
        "parts@cpu", "parts", "cpu", "1.0.0", "int8", "built",
        size=10_900, source_size=34_000, score=Score("accuracy", 0.97, 0.965, 0.005),
        difference={"logits": Difference(0.4, 0.03, 0.999, 0.05, 0.01)},
        comparison=Comparison(800, "evaluation", "int8", dict.fromkeys(
            ("relative", "columns", "labels"), 0.25), "so it was agreed"),
        latency=Latency(0.51, 0.9, _CPU, 4, _AT, 0.02, 0.0, 0.05),
        fp32=Fp32("onnxruntime", 34_000, 3.12, 0.97, -0.005, 1.1, 2.15, 2.0, 2.3, "3.1x smaller"),
        rows_per_second={"1": 2000.0, "8": 9500.0}, confidence=_confidence(),
        level="executed", level_reason="ran in onnxruntime, which serves it", digest="abc123def456",
        notes=("1 node stays in floating point: 'mask' works on values up to 1e+09",),
        gates=(Gate("max_accuracy_drop", 0.005, 0.02), Gate("max_size_mb", 0.0109, 0.1, "MB")),
        folder="cpu/models/parts",
    )  # fmt: skip
    doubtful = replace(
        cpu, id="parts@cpu-openvino", target="cpu-openvino", status="cached", size=30_000,
        score=Score("accuracy", 0.97, 0.9712, -0.0012), confidence=None,
        latency=Latency(0.2, 3.9, _CPU, 4, _AT, 0.8, 0.0, 0.5, "others used 80% of the processor"),
        folder="cpu-openvino/models/parts", warnings=("one row of the data is not finite",),
    )  # fmt: skip
    bundle = replace(
        doubtful, id="parts@tflite-micro", target="tflite-micro", size=8_000, latency=None,
        level="simulated", folder="tflite-micro/bundles/parts", warnings=(),
    )  # fmt: skip
    refused = replace(
        bundle, id="parts@jetson-orin-nx", target="jetson-orin-nx", status="gate failed",
        level="prepared", score=Score("accuracy", 0.97, 0.9, 0.07), folder="", digest="",
        reason="accuracy drop 0.07 > max_accuracy_drop 0.02",
        gates=(Gate("max_accuracy_drop", 0.07, 0.02),),
    )  # fmt: skip
    return cpu, doubtful, bundle, refused


def _confidence() -> Confidence:
    points = tuple(
        OperatingPoint(t, 1 - t, 0.05 * (1 - t), 0.03, 1 + 40 * t, t) for t in (0.0, 0.3, 0.6, 1.0)
    )
    return Confidence(
        "margin", "logits", "onnxruntime", 1.1, 0.02, 0.95, "parts-large", "abc", 100, 300, 200, 2,
        0.018, points[1], points,
    )  # fmt: skip


def _hostile(logs: Path) -> tuple[Row, ...]:
    def failed(target: str, line: int) -> Row:
        reason = f"verify failed: m.onnx:{line}: {HOSTILE}; log: {logs}/{target}.txt"
        name = "a-model-with-a-name-as-long-as-people-make-them-in-practice"
        return Row(f"{name}@{target}", name, target, "0.1.0", "fp32", "failed", reason=reason)

    return failed("cpu", 3), failed("cpu-openvino", 17)


def _pipeline() -> Row:
    stages = {"capture": 17.0, "transfer": 2.0, "preprocess": 0.1, "infer": 0.5, "postprocess": 0.2}
    return Row(
        "find@cpu", "find", "cpu", "1.0.0", "pipeline", "built", size=14_600,
        latency=Latency(0.8, 1.0, _CPU, 4, _AT, 0.0), level="executed", level_reason="ran on it",
        digest="beb379ba4416", budget=Budget(stages, 19.8, 25.0),
        gates=(Gate("latency_budget_ms", 19.8, 25.0, "ms"),), folder="cpu/models/find",
    )  # fmt: skip
