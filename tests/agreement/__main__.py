"""`python -m tests.agreement`: judge the whole corpus and write docs/lint-agreement.md."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from tests.agreement.judge import Verdict, judge
from tests.agreement.mutate import corpus
from tests.agreement.seeds import seeds

COUNT, SEED = 400, 1
FRESH = (
    (3, 400, "3 (0.75%)", "1 (0.25%)"),
    (4, 300, "2 (0.67%), one a load that did not end", "1 (0.33%)"),
    (11, 400, "3 (0.75%)", "0"),
    (12, 400, "1 (0.25%)", "0"),
    (13, 400, "1 (0.25%)", "0"),
    (14, 400, "1 (0.25%)", "0"),
    (15, 400, "1 (0.25%)", "0"),
    (16, 400, "0", "1 (0.25%)"),
    (17, 400, "0", "0"),
)
"""Seed, repositories, missed, refused alone: as they were found, before rules were mended."""
CPP = """
## Against Triton's C++ backends

167 small repositories were loaded once in genuine Triton 2.51 with its C++ backends (ONNX Runtime
1.32, OpenVINO 2026.4), on a machine without a GPU, and linted without `--target`:

| | missed by lint | lint alone refuses |
|---|---|---|
| before the rules followed the C++ backends | 19 | 4 |
| now | 1 | 0 |

The one is `KIND_AUTO` with `gpus`, which only a machine without a GPU refuses: lint finds it with
`--target cpu`. With that target it is `TYPE_BF16` instead, which our image takes. The like of these
repositories, with their verdicts, are in `tests/unit/repository/lint/test_native.py`. 16 of them
were mutated (520 cases) and loaded in Triton with our Python-based backends, which refuse what the
C++ ones do: none missed, none refused alone.
"""
PAGE = Path(__file__).parents[2] / "docs" / "lint-agreement.md"


def main() -> None:
    """Judge, print what differs, write the page."""
    cases = corpus(seeds(), COUNT, SEED)
    with tempfile.TemporaryDirectory() as root:
        verdicts = judge(cases, Path(root))
    PAGE.write_text(_page(verdicts))
    print(PAGE.read_text())


def _page(verdicts: list[Verdict]) -> str:
    by_seed: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_seed.setdefault(verdict.case.seed, []).append(verdict)
    rows = [_row(name, some) for name, some in sorted(by_seed.items())]
    rules = Counter(f.rule for v in verdicts for f in v.findings)
    lines = [
        "# Does lint agree with Triton?",
        "",
        f"{len(verdicts)} repositories, made from {len(by_seed)} good ones by mutation (seed "
        f"{SEED}), were loaded in genuine Triton 2.51 and linted with `--target cpu`. Made by",
        "",
        "<!-- not run: takes an hour of Triton's loads; CI judges a part, "
        "tests/cases/test_agreement.py -->",
        "    python -m tests.agreement",
        "",
        "`tests/cases/test_agreement.py` judges a part of them in CI.",
        "",
        "The rules were written with this corpus in view. Fresh ones, judged once each before what",
        "they showed was mended, tell more of repositories that nobody has seen:",
        "",
        "| seed | repositories | missed by lint | lint alone refuses |",
        "|---|---|---|---|",
        *(f"| {' | '.join(map(str, figures))} |" for figures in FRESH),
        "",
        "| from | repositories | both accept | both refuse | missed by lint | lint alone refuses |",
        "|---|---|---|---|---|---|",
        *rows,
        _row("**all**", verdicts),
        "",
        "## Triton refuses, lint does not (missed)",
        "",
        *(_line(v, v.reason) for v in verdicts if v.missed),
        *([] if any(v.missed for v in verdicts) else ["None."]),
        "",
        "## Lint refuses, Triton does not",
        "",
        *(_line(v, ", ".join(f.rule for f in v.findings)) for v in verdicts if v.wrongly_refused),
        *([] if any(v.wrongly_refused for v in verdicts) else ["None."]),
        "",
        *CPP.strip().splitlines(),
        "",
        "## What is not judged here",
        "",
        f"Of these repositories {sum(v.unjudged for v in verdicts)} ask for what only Triton's C++",
        "backends do, and our Python-based ones say so; they count as accepted.",
        "",
        "Only Triton's core, its python backend and our Python-based `onnxruntime` and `openvino`",
        "backends are at hand. Rules with the judge `c++` (see [lint](lint.md)) follow the sources",
        "of the C++ backends and count neither way; so does what a `tensorrt` backend would say.",
        "Fields that Triton 2.51 does not know yet (`model_metrics`, `max_inflight_requests`,",
        "`use_growable_memory`) are not drawn: that Triton refuses every config that has them.",
        "",
        "## Rules that refused something",
        "",
        "| rule | times |",
        "|---|---|",
        *(f"| {rule} | {times} |" for rule, times in sorted(rules.items())),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, verdicts: list[Verdict]) -> str:
    both = Counter((v.lint_refuses, bool(v.reason)) for v in verdicts)
    unjudged = sum(v.unjudged and not v.lint_refuses for v in verdicts)
    missed = sum(v.missed for v in verdicts)
    figures = [len(verdicts), both[False, False] + unjudged, both[True, True], missed]
    return f"| {name} | {' | '.join(map(str, figures))} | {both[True, False]} |"


def _line(verdict: Verdict, why: str) -> str:
    return f"- {verdict.case.seed}, {verdict.case.what}: {' '.join(why.split())[:200]}"


if __name__ == "__main__":
    main()
