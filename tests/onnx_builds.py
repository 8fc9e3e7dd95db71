"""Models of the `onnx` package by the commands that users give: init, build, serve; then equal.

`python -m tests.onnx_builds 150` writes docs/onnx-builds.md from a sample of so many single-node
models that import takes, and the light ones. CI does a few in tests/cases.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx

from repo_builder import introspect, serve
from repo_builder.base.errors import ModelError
from repo_builder.introspect import runtime
from tests import onnx_coverage as coverage

PAGE = Path(__file__).parents[1] / "docs" / "onnx-builds.md"
NO_INPUT = "no random input runs"
EQUAL, WITH_DATA = "equal", "equal, with the test's inputs as evaluation data"
_GOOD = (EQUAL, WITH_DATA)


def run(examples: Sequence[coverage.Example], place: Path) -> dict[str, str]:
    """Name -> how far each came; `place` is an empty folder."""
    specs = place / "specs"
    specs.mkdir()
    reached: dict[str, str] = {}
    for example in examples:
        onnx.save(example.model, specs / f"{example.name}.onnx")
        done = _command("init", f"{example.name}.onnx", cwd=specs)
        if done.returncode:
            reached[example.name] = f"init refuses: {done.stderr.strip().splitlines()[-1]}"
    by_name = {e.name: e for e in examples if e.name not in reached}
    failed = _build(place)
    given = [name for name, why in failed.items() if NO_INPUT in why and by_name[name].inputs]
    for name in given:
        _give_data(by_name[name], specs)
    failed = _build(place) if given else failed
    reached |= {name: f"build refuses: {why}" for name, why in failed.items()}
    for result in _serve([e for e in by_name.values() if e.name not in reached], place):
        good = WITH_DATA if result.name in given else EQUAL
        reached[result.name] = good if result.outcome == "equal" else result.why
    return reached


def _command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "repo_builder", *map(str, arguments)]
    here = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": here}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


def _build(place: Path) -> dict[str, str]:
    """Build all specs; name -> reason of those that failed."""
    done = _command("build", "specs", "--store", "store", "--json", cwd=place)
    rows = json.loads(done.stdout)["rows"]
    return {row["name"]: row["reason"] for row in rows if row["status"] not in ("built", "cached")}


def _give_data(example: coverage.Example, specs: Path) -> None:
    """Evaluation data from the test's inputs, for a model that random inputs do not fit."""
    path = specs / f"{example.name}.onnx"
    signature = introspect.signature(path)
    feeds = coverage.inputs(example, signature) or {}
    target = np.asarray(_answer(path)(feeds)[0])[None]
    np.savez(
        specs / f"{example.name}.npz", expected=target, **{n: a[None] for n, a in feeds.items()}
    )
    evaluation = {
        "path": f"{example.name}.npz",
        "metric": "mse",
        "labels": {"target": "expected"},
        "outputs": {"value": signature.outputs[0].name},
    }
    with (specs / f"{example.name}.yaml").open("a") as spec:
        spec.write(f"\ndata: {json.dumps({'evaluation': evaluation})}\n")


def _answer(path: Path) -> coverage.Answer:
    """The model in ONNX Runtime, or in ONNX's reference where ONNX Runtime lacks an operator."""
    from onnx.reference import ReferenceEvaluator

    try:
        session = runtime.session(str(path))
    except runtime.errors():
        reference = ReferenceEvaluator(onnx.load(path))
        return lambda feeds: reference.run(None, feeds)
    return lambda feeds: coverage.run(session, feeds)


def _serve(examples: Sequence[coverage.Example], place: Path) -> list[coverage.Result]:
    """Serve what was built, and compare with the source on the test's inputs."""
    results = []
    for start in range(0, len(examples), coverage.CHUNK):
        with serve.Triton(place / "build" / "cpu", models=[], timeout_s=60, drain_s=0) as server:
            for example in examples[start : start + coverage.CHUNK]:
                path = place / "specs" / f"{example.name}.onnx"
                signature = introspect.signature(path)
                results.append(coverage.compare(server, example, signature, _answer(path)))
    return results


def main(sample: int) -> None:
    """Build a sample, and write the page."""
    chosen = random.Random(1).sample(_taken(coverage.nodes()), sample)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        reached = run([*coverage.light(), *chosen], Path(folder))
    PAGE.write_text(page(reached, sample))
    print(PAGE.read_text())


def _taken(examples: Sequence[coverage.Example]) -> list[coverage.Example]:
    """Those that import takes: why it refuses the others is in docs/onnx-coverage.md."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for example in examples:
            onnx.save(example.model, path)
            with contextlib.suppress(ModelError):
                introspect.signature(path)
                taken.append(example)
    return taken


def page(reached: dict[str, str], sample: int) -> str:
    """How many came how far, and the names of those that are not equal."""
    counts = Counter(why if why in _GOOD else "else" for why in reached.values())
    lines = [
        "# Models built by the commands",
        "",
        "The light models of the `onnx` package and a sample of its single-node models that import",
        "takes ([which those are](onnx-coverage.md)): `repo-builder init`, `build` for `cpu`,",
        "served by genuine Triton, compared with the source on the test's inputs. Made by",
        "",
        "<!-- not run: takes long; CI builds a part of them, tests/cases/test_onnx_coverage.py -->",
        f"    python -m tests.onnx_builds {sample}",
        "",
        f"with onnx {onnx.__version__} and onnxruntime {version('onnxruntime')}.",
        "",
        "| | models |",
        "|---|---|",
        *(f"| {how} | {counts[how]} |" for how in (*_GOOD, "else")),
        f"| **all** | {len(reached)} |",
        "",
        "Evaluation data is what `build` asks for where no random input runs, such as for an input",
        "that holds a shape; the test's own inputs were given then.",
        "",
        "## Else",
        "",
        *(
            [f"- {name}: {why}" for name, why in sorted(reached.items()) if why not in _GOOD]
            or ["None."]
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(int(sys.argv[1]))
