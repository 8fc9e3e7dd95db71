"""Which models of the `onnx` package go all the way: looked into, configured, served, and equal.

`python -m tests.onnx_coverage` writes docs/onnx-coverage.md from all of them; with a number, from
a sample of so many single-node models. CI runs a small sample in tests/cases.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from repo_builder import introspect, serve
from repo_builder.artifact import Signature
from repo_builder.errors import ModelError, RepoBuilderError
from repo_builder.repository import config, render
from repo_builder.spec.types import Gates, Optimize, Serving, Spec, Version
from repo_builder.targets import load

PAGE = Path(__file__).parents[1] / "docs" / "onnx-coverage.md"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
CHUNK = 24
"""Models that one Triton serves at a time: each has a process."""


@dataclass(frozen=True)
class Example:
    """A model and inputs for it; a light model gets random ones."""

    name: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...] | None


@dataclass(frozen=True)
class Result:
    """How far a model came: "equal", "refused" with the true reason, or "failed"."""

    name: str
    outcome: str
    why: str = ""


def light() -> list[Example]:
    """The classic networks of the onnx package."""
    return [Example(p.stem, onnx.load(p), None) for p in sorted(LIGHT.glob("*.onnx"))]


def nodes() -> list[Example]:
    """The single-node models of ONNX's backend test, with their inputs."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    return [Example(c.name, c.model, tuple(c.data_sets[0][0])) for c in cases]


def check(examples: Sequence[Example]) -> list[Result]:
    """Take every example as far as it goes."""
    results = []
    for start in range(0, len(examples), CHUNK):
        with tempfile.TemporaryDirectory() as folder:
            results += _check(examples[start : start + CHUNK], Path(folder))
    return results


def _check(examples: Iterable[Example], root: Path) -> list[Result]:
    results, ready = [], []
    for example in examples:
        folder = root / example.name
        (folder / "1").mkdir(parents=True)
        path = folder / "1" / "model.onnx"
        try:
            onnx.save(example.model, path)
            signature = introspect.signature(path)
            text = _config(example.name, path, signature)
        except ModelError as refusal:
            results.append(Result(example.name, "refused", " ".join(str(refusal).split())))
        except RepoBuilderError as refusal:
            results.append(Result(example.name, "failed", " ".join(str(refusal).split())))
        else:
            (folder / "config.pbtxt").write_text(text)
            ready.append((example, signature))
    if ready:
        with serve.Triton(root, models=[], timeout_s=60, drain_s=0) as server:
            results += [_serve(server, root, *each) for each in ready]
    return results


def _config(name: str, path: Path, signature: Signature) -> str:
    spec = Spec(
        name=name,
        version=Version(0, 0, 1),
        target="cpu",
        onnx=path,
        file=path,
        calibration=None,
        evaluation=None,
        optimize=Optimize(),
        gates=Gates(),
        serving=Serving(),
        preprocess=None,
    )
    return render.text(config.decide(spec, load()["cpu"], signature, {}, cores=1))


def _serve(server: serve.Triton, root: Path, example: Example, signature: Signature) -> Result:
    """Load the model, send the inputs, and compare with ONNX Runtime in this process."""
    import onnxruntime as ort
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    name = example.name
    if any(t.dtype == "BF16" for t in (*signature.inputs, *signature.outputs)):
        return Result(name, "refused", "bfloat16 needs Triton's C++ backend")
    ort.set_default_logger_severity(4)
    session = ort.InferenceSession(str(root / name / "1" / "model.onnx"))
    feeds = _feeds(example, signature)
    if feeds is None:
        return Result(name, "refused", "its test gives inputs that are no tensors")
    want = session.run(None, feeds)
    with triton.InferenceServerClient(server.grpc_url) as client:
        try:
            client.load_model(name, client_timeout=60)
            result = client.infer(name, _requests(triton, feeds, signature), client_timeout=60)
            client.unload_model(name)
        except InferenceServerException as failure:
            return Result(name, "failed", " ".join(str(failure).split())[:300])
    for output, expected in zip(session.get_outputs(), want, strict=True):
        got = result.as_numpy(output.name)
        if not _equal(got, np.asarray(expected)):
            return Result(name, "failed", f"output '{output.name}' differs")
    return Result(name, "equal")


def _feeds(example: Example, signature: Signature) -> dict[str, Any] | None:
    names = [t.name for t in signature.inputs]
    if example.inputs is None:
        generator = np.random.default_rng(0)
        shapes = {
            t.name: [d if isinstance(d, int) else 1 for d in t.shape] for t in signature.inputs
        }
        return {n: generator.random(shapes[n], np.float32) for n in names}
    given = [v.name for v in example.model.graph.input]
    feeds = dict(zip(given, example.inputs, strict=False))
    if any(isinstance(feeds[n], list | dict) or feeds[n] is None for n in names):
        return None
    arrays = {}
    for name in names:
        value = feeds[name]
        array = numpy_helper.to_array(value) if hasattr(value, "raw_data") else np.asarray(value)
        arrays[name] = array.astype(object) if array.dtype.kind in "US" else array
    return arrays


def _requests(triton: Any, feeds: dict[str, Any], signature: Signature) -> list[Any]:
    requests = []
    for tensor in signature.inputs:
        dtype = "BYTES" if tensor.dtype == "STRING" else tensor.dtype
        array = feeds[tensor.name]
        array = array.reshape(array.shape or (1,))
        if dtype == "BYTES":
            encoded = [str(item).encode() for item in array.ravel()]
            array = np.array(encoded, dtype=object).reshape(array.shape)
        request = triton.InferInput(tensor.name, list(array.shape), dtype)
        request.set_data_from_numpy(np.ascontiguousarray(array))
        requests.append(request)
    return requests


def _equal(got: Any, want: Any) -> bool:
    if got is None or got.shape != (want.shape or (1,)):
        return False
    want = want.reshape(got.shape)
    if want.dtype.kind in "OUS":
        text = [item.decode() if isinstance(item, bytes) else str(item) for item in got.ravel()]
        return text == [str(item) for item in want.ravel()]
    if want.dtype.kind in "biu":
        return bool(np.array_equal(got, want))
    return bool(np.allclose(got, want, rtol=1e-4, atol=1e-5, equal_nan=True))


def main(sample: int | None) -> None:
    """Check all, or a sample, and write the page."""
    some = nodes()
    if sample is not None:
        some = random.Random(0).sample(some, sample)  # noqa: S311 - reproducible, not secret
    PAGE.write_text(page(check(light()), check(some), sample))
    print(PAGE.read_text())


def page(classic: list[Result], single: list[Result], sample: int | None) -> str:
    """The coverage table, and the reason of every model that did not come all the way."""
    command = "python -m tests.onnx_coverage" + (f" {sample}" if sample is not None else "")
    rows = []
    for title, results in (("`light_*`", classic), ("single-node", single)):
        counts = Counter(result.outcome for result in results)
        alien = sum(
            "Triton cannot carry" in r.why or "Triton does not have" in r.why for r in results
        )
        able = len(results) - alien
        rows.append(
            f"| {title} | {len(results)} | {alien} | {counts['refused'] - alien} | "
            f"{counts['equal']} | {counts['failed']} | {100 * counts['equal'] / able:.1f}% |"
        )
    reasons = Counter(_kind(r.why) for r in single + classic if r.outcome == "refused")
    failed = [r for r in classic + single if r.outcome == "failed"]
    lines = [
        "# Which ONNX models go all the way",
        "",
        "Models of the `onnx` package: looked into, given a config, served by genuine Triton with",
        "our Python-based `onnxruntime` backend, compared with ONNX Runtime in-process. Made by",
        "",
        f"    {command}",
        "",
        "| models | all | alien types | refused otherwise | equal | failed | equal of rest |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Alien types are those that Triton does not have; the rest are all others.",
        "",
        "## Why models are refused",
        "",
        *(f"- {times} x {reason}" for reason, times in reasons.most_common()),
        "",
        "## What failed",
        "",
        *([f"- {r.name}: {r.why}" for r in failed] or ["Nothing."]),
    ]
    return "\n".join(lines) + "\n"


def _kind(why: str) -> str:
    """A reason without the names in it."""
    for mark in ("Triton cannot carry", "Triton does not have", "has size 0"):
        if mark in why:
            return re.split("[,;]", why.split(" has ", 1)[1], maxsplit=1)[0]
    return re.split(r"\(|with name", why.split(": ", 1)[-1], maxsplit=1)[0][:110].strip()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
