"""Which models of the `onnx` package go all the way: imported, configured, served, and equal.

`python -m tests.onnx_coverage` writes docs/onnx-coverage.md from all of them; with a number, from
a sample of so many single-node models. CI runs a small sample in tests/cases.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from repo_builder import serve
from repo_builder.base.artifact import Signature
from repo_builder.base.errors import ModelError, RepoBuilderError
from repo_builder.introspect import bfloat16, runtime
from repo_builder.introspect.runtime import reason_of
from repo_builder.repository import config, render
from repo_builder.spec.types import Gates, OnnxSource, Optimize, Serving, Spec, Version
from repo_builder.steps import import_onnx
from repo_builder.targets import load

PAGE = Path(__file__).parents[1] / "docs" / "onnx-coverage.md"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
CHUNK = 24
"""Models that one Triton serves at a time: each has a process."""

ALIEN = "refused: a type that Triton does not have"
TOO_OLD = "refused: an opset before 7"
NO_KERNEL = "refused: an operator, or a form of it, that ONNX Runtime lacks"
OTHER = "refused: anything else"
GROUPS = (ALIEN, TOO_OLD, NO_KERNEL, OTHER, "failed", "equal")
MARKS = {
    ALIEN: ("Triton cannot carry", "Triton does not have"),
    TOO_OLD: ("is older than 7",),
    NO_KERNEL: (
        "operators that ONNX Runtime does not have",
        "Could not find an implementation",
        "Failed to find kernel",
        "Batchwise recurrent operations",
    ),
}
"""What the reasons of each group say."""


Answer = Callable[[dict[str, Any]], Sequence[Any]]
"""Inputs by name to the outputs that are right, in the model's order."""


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
    converted: bool = False


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
        given, served = folder / "given", folder / "1"
        given.mkdir(parents=True)
        served.mkdir()
        onnx.save(example.model, given / "model.onnx")
        try:
            facts = import_onnx.run(import_onnx.Inputs(given), import_onnx.Params(), served)
            text = _config(example.name, served / "model.onnx", facts.signature)
        except ModelError as refusal:
            results.append(Result(example.name, "refused", " ".join(str(refusal).split())))
        except RepoBuilderError as refusal:
            results.append(Result(example.name, "failed", " ".join(str(refusal).split())))
        else:
            (folder / "config.pbtxt").write_text(text)
            ready.append((example, facts.signature))
    if ready:
        with serve.Triton(root, models=[], timeout_s=60, drain_s=0) as server:
            results += [
                compare(server, example, signature, _imported(root, example.name, signature))
                for example, signature in ready
            ]
    return results


def _config(name: str, path: Path, signature: Signature) -> str:
    spec = Spec(
        name=name,
        version=Version(0, 0, 1),
        target="cpu",
        source=OnnxSource(path),
        file=path,
        calibration=None,
        evaluation=None,
        optimize=Optimize(),
        gates=Gates(),
        serving=Serving(),
        preprocess=None,
    )
    return render.text(config.decide(spec, load()["cpu"], signature, {}, cores=1))


def _imported(root: Path, name: str, signature: Signature) -> Answer:
    """The given model; the imported one where ONNX Runtime lacks it, which is shown to be it."""
    path = root / name / ("1" if signature.converted_from else "given") / "model.onnx"
    session = runtime.session(str(path))
    return lambda feeds: run(session, feeds)


def compare(server: serve.Triton, example: Example, signature: Signature, answer: Answer) -> Result:
    """Load the model, send the inputs, and compare with `answer`, in this process."""
    import tritonclient.grpc as triton
    from tritonclient.utils import InferenceServerException

    name = example.name
    feeds = inputs(example, signature)
    if feeds is None:
        return Result(name, "refused", "its test gives inputs that are no tensors")
    try:
        want = answer(feeds)
    except runtime.errors() as failure:
        return Result(name, "refused", f"ONNX Runtime fails on its inputs ({reason_of(failure)})")
    with triton.InferenceServerClient(server.grpc_url) as client:
        try:
            client.load_model(name, client_timeout=60)
            result = client.infer(name, _requests(triton, feeds, signature), client_timeout=60)
            client.unload_model(name)
        except InferenceServerException as failure:
            return Result(name, "failed", " ".join(str(failure).split())[:300])
    for output, expected in zip(signature.outputs, want, strict=True):
        got = result.as_numpy(output.name)
        if not _equal(got, np.asarray(expected)):
            return Result(name, "failed", f"output '{output.name}' differs")
    return Result(name, "equal", converted=bool(signature.converted_from))


def run(session: Any, feeds: dict[str, Any]) -> list[Any]:
    """The session's answer; bfloat16 goes in and out as float32, as in Triton's client."""
    types = {tensor.name: tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())}
    narrow = {name for name, kind in types.items() if kind == "tensor(bfloat16)"}
    return bfloat16.run(session, [o.name for o in session.get_outputs()], feeds, narrow)


def inputs(example: Example, signature: Signature) -> dict[str, Any] | None:
    """Inputs by name; None where they are no tensors."""
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
        array = array.astype(np.float32) if dtype == "BF16" else array
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
    # Two ways to compute in half precision differ by some units in its last place, 2**-10.
    rtol, atol = (4e-3, 1e-3) if want.dtype == np.float16 else (1e-4, 1e-5)
    return bool(np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True))


def main(sample: int | None) -> None:
    """Check all, or a sample, and write the page."""
    some = nodes()
    if sample is not None:
        some = random.Random(0).sample(some, sample)  # noqa: S311 - reproducible, not secret
    with tempfile.TemporaryDirectory() as folder:
        _make_locale(Path(folder))
        PAGE.write_text(page(check(light()), check(some), sample))
    print(PAGE.read_text())


def _make_locale(folder: Path) -> None:
    """The locale that StringNormalizer takes where a model names none, from glibc's sources."""
    name = "en_US.UTF-8"
    subprocess.run(["localedef", "-i", "en_US", "-f", "UTF-8", folder / name], check=True)
    os.environ["LOCPATH"] = str(folder)


def page(classic: list[Result], single: list[Result], sample: int | None) -> str:
    """The coverage table, and the reason of every model that did not come all the way."""
    command = "python -m tests.onnx_coverage" + (f" {sample}" if sample is not None else "")
    reasons = Counter(_kind(r.why) for r in single + classic if r.outcome == "refused")
    rows = _rows(classic), _rows(single)
    failed = [r for r in classic + single if r.outcome == "failed"]
    lines = [
        "# Which ONNX models go all the way",
        "",
        "Models of the `onnx` package: imported, given a config, served by genuine Triton with our",
        "Python-based `onnxruntime` backend, compared with ONNX Runtime in-process. Made by",
        "",
        "<!-- not run: takes long; CI builds a part of them, tests/cases/test_onnx_coverage.py -->",
        f"    {command}",
        "",
        f"with onnx {onnx.__version__} and onnxruntime {version('onnxruntime')}.",
        "",
        "| | `light_*` | single-node |",
        "|---|---|---|",
        *(f"| {title} | {a} | {b} |" for (title, a), (_, b) in zip(*rows, strict=True)),
        "",
        "Triton's C++ backend is ONNX Runtime as well: what ONNX Runtime lacks, no Triton serves.",
        "The last row leaves such models out, and those of an opset before 7; the row above counts",
        "them as missed.",
        "",
        *_converted(classic + single),
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


def _converted(results: list[Result]) -> list[str]:
    """How many models were served in another opset than their own."""
    n = sum(bool(r.converted) for r in results if r.outcome == "equal")
    return [
        f"Of the equal ones {n} were converted at import to an opset that ONNX Runtime has, and",
        "compared in that; import showed that both answer alike, or refused the model.",
    ]


def _rows(results: list[Result]) -> list[tuple[str, str]]:
    """The rows of the table for one set of models: what is counted, and the count."""
    groups = Counter(_group(result) for result in results)
    equal = groups["equal"]
    carried = len(results) - groups[ALIEN]
    runnable = carried - groups[TOO_OLD] - groups[NO_KERNEL]
    return [
        ("all", str(len(results))),
        *((group, str(groups[group])) for group in GROUPS),
        *(
            (title, f"{equal} of {base}, {100 * equal / base:.1f}%")
            for title, base in (
                ("equal, of those whose types Triton carries", carried),
                ("equal, of those that ONNX Runtime also has, of opset 7 or newer", runnable),
            )
        ),
    ]


def _group(result: Result) -> str:
    if result.outcome != "refused":
        return result.outcome
    return next(
        (group for group, marks in MARKS.items() if any(m in result.why for m in marks)), OTHER
    )


def _kind(why: str) -> str:
    """A reason without the names in it."""
    if any(mark in why for mark in (*MARKS[ALIEN], "always has size 0")):
        return re.split("[,;]", why.split(" has ", 1)[1], maxsplit=1)[0]
    return re.split(r" \(|\(\d|with name", why.split(": ", 1)[-1], maxsplit=1)[0][:110].strip()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
