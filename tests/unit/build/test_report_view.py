"""What people read of a report: causes of failures, changes, margins, and Markdown."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from repo_builder.build import gates, provenance, report
from repo_builder.build.report import across, causes, changes, charts, html, logs, markdown, view
from repo_builder.build.report.search import Search
from repo_builder.build.report.types import Gate, Latency, Report, Row, Score, report_of
from repo_builder.spec.types import Gates
from tests import reports

SHOWN = reports.report()
CPU = SHOWN.rows[0]


def test_failures_that_differ_in_names_paths_and_figures_are_one_cause() -> None:
    gate, failed = sorted(causes.of(SHOWN), key=lambda cause: not cause.gate)
    assert [failure.row.target for failure in failed.failures] == ["cpu", "cpu-openvino"]
    assert failed.failures[1].log == "/var/logs/cpu-openvino.txt"
    assert "log:" not in failed.failures[1].reason
    assert not failed.alike
    assert [failure.row.id for failure in gate.failures] == ["parts@jetson-orin-nx"]


def test_the_page_holds_the_ends_of_logs_and_no_link_to_them(tmp_path: Path) -> None:
    long = "".join(f"line {i} of a tool that talks\n" for i in range(2000))
    (tmp_path / "cpu.txt").write_text(f"{long}\x1b[31mit ends so\x1b[0m\n")
    shown = reports.report(tmp_path)
    found = logs.ends(causes.of(shown))
    assert list(found) == [f"{tmp_path}/cpu.txt"]  # the other is not there
    (text,) = found.values()
    assert text.endswith("\nit ends so")
    assert text.startswith("line ")
    assert logs.BYTES - 100 < len(text) < logs.BYTES
    page = html.page(shown)
    assert text in page
    assert f"{tmp_path}/cpu-openvino.txt" in page
    linked = re.findall(r'href="([^"]*)"', page)
    assert linked
    assert [link for link in linked if link.startswith(("/", "file:"))] == []


def test_a_note_is_told_once_for_all_targets_that_it_holds_for() -> None:
    said = CPU.notes[0]
    assert view.of(SHOWN).cards[0].notes == (
        ("cpu, cpu-openvino, tflite-micro, jetson-orin-nx", said),
    )
    assert said.replace("'", "&#39;") in html.page(SHOWN)


def test_other_reasons_are_other_causes_and_the_most_frequent_comes_first() -> None:
    bad = [
        Row(f"m{i}@cpu", f"m{i}", "cpu", "1.0.0", "fp32", "failed", reason=reason)
        for i, reason in enumerate(("no disk", "m1: node 3 of 4", "m2: node 1 of 9"))
    ]
    assert [len(cause.failures) for cause in causes.of(Report(tuple(bad), {}, 1.0))] == [2, 1]


def test_the_verdict() -> None:
    assert view.of(SHOWN).verdict.sentence == "4 of 7 variants of 3 models can be served"
    assert view.of(SHOWN).verdict.state == "bad"
    assert view.of(SHOWN).verdict.notes[:2] == (
        "Beside fp32, median of 3 variants: 3.1x smaller, 2.1x faster ?; worst score -0.50 points",
        "1 held back by a gate, 2 failed, for 2 causes; what was published before stays",
    )
    gated = replace(SHOWN, rows=(CPU, SHOWN.rows[3]))
    assert view.of(gated).verdict.state == "held"
    assert view.of(replace(SHOWN, rows=(CPU,))).verdict.state == "good"
    assert view.of(Report((), {}, 0.0)).verdict.sentence == "Nothing was built"


def test_a_margin_says_what_is_left_and_what_is_too_much() -> None:
    found = view.of(SHOWN).cards[0].lines
    assert [gate.text for gate in found[0].gates] == [
        "drop 0.005 of 0.02, 75% left",
        "size 0.011 of 0.1 MB, 89% left",
    ]
    (broken,) = found[3].gates
    assert (broken.text, broken.held) == ("drop 0.07 of 0.02, 0.05 too much", False)


@pytest.mark.parametrize(
    ("gate", "held", "words"),
    [
        (Gate("max_latency_ms", 1.0, 5.0, "ms", "a busy machine"), False, "not to be trusted"),
        (Gate("max_latency_ms", None, 5.0, "ms"), True, "not measured"),
        (Gate("max_accuracy_drop", float("nan"), 0.1), False, "too much"),
        (Gate("max_accuracy_drop", 0.0, 0.0), True, "left"),
    ],
)
def test_gates_without_a_plain_figure(gate: Gate, held: bool, words: str) -> None:
    (shown,) = view.of(Report((replace(CPU, gates=(gate,)),), {}, 1.0)).cards[0].lines[0].gates
    assert (gate.held, shown.held) == (held, held)
    assert words in shown.text


def test_the_limits_of_a_report_agree_with_the_gates_that_refuse() -> None:
    for drop, latency, doubt in ((0.1, 1.0, ""), (0.01, 9.0, ""), (0.01, 1.0, "busy")):
        spec = Gates(max_accuracy_drop=0.05, max_size_mb=1.0, max_latency_ms=5.0)
        score = Score("accuracy", 0.9, 0.9 - drop, drop, 400)
        measured = gates.Measurements(500_000, score, latency, doubt)
        broken = [gate for gate in gates.limits(spec, measured) if not gate.held]
        assert len(broken) == len(gates.failures(spec, measured)) == 1


def test_what_changed_since_the_build_before() -> None:
    other = replace(CPU, id="other@cpu", name="other")
    gone = replace(CPU, id="gone@cpu", name="gone")
    before = replace(SHOWN, rows=(CPU, other, gone, SHOWN.rows[4]), changes=None)
    again = Latency(0.4, 0.9, at="2026-03-03T00:00:00Z")
    now = replace(
        before,
        rows=(
            replace(CPU, digest="other", size=9_000),
            replace(other, latency=again),
            replace(SHOWN.rows[4], status="built", reason=""),
            replace(CPU, id="more@cpu", name="more"),
        ),
    )
    noted = changes.noted(now, before, whole=True).changes
    assert noted is not None
    assert {one.id.split("@")[0]: one.what for one in noted.models} == {
        "parts": "rebuilt",
        "other": "measured again",
        SHOWN.rows[4].name: "good again",
        "more": "new",
        "gone": "gone",
    }
    assert noted.since == "2026-03-02T10:20:30Z"
    assert noted.models[0].what == "good again"
    assert view.figures(noted.models[3])[0] == ("size", "10.9 KB", "9.0 KB")
    part = changes.noted(now, before, whole=False).changes
    assert part is not None
    assert "gone" not in {one.what for one in part.models}


def test_a_build_that_changes_nothing_keeps_what_the_one_before_changed() -> None:
    assert changes.noted(replace(SHOWN, changes=None), SHOWN, whole=True).changes == SHOWN.changes
    assert changes.noted(SHOWN, None, whole=True) == SHOWN


def test_charts_have_a_scale_with_round_ends_and_bars_inside() -> None:
    size, speed, score = charts.of(SHOWN)
    assert (size.title, speed.title, score.title) == ("Size", "Speed", "Score")
    for chart in (size, speed, score):
        places = [place for place, _ in chart.ticks]
        assert (places[0], places[-1]) == (0.0, 100.0)
        for bar in chart.bars:
            assert 0 <= bar.left <= bar.left + bar.width <= 100.01
    assert score.bars[0].text == "-0.50 points"
    assert (size.bars[0].model, size.bars[0].targets) == ("parts", "cpu, cpu-openvino +2")


def test_where_nothing_differs_there_is_no_chart() -> None:
    same = replace(CPU, score=None, fp32=None)
    assert charts.of(replace(SHOWN, rows=(same,))) == ()


def test_a_report_survives_being_written_and_read() -> None:
    assert report_of(SHOWN.as_json()) == SHOWN


def test_what_specs_say_stays_text_on_the_page_and_in_markdown() -> None:
    page = html.page(SHOWN)
    assert page.count("<script") == 1
    assert "<img" not in page
    text = markdown.text(SHOWN)
    assert text.count("```") == 6
    outside = "".join(text.split("```")[::2])
    assert "<script" not in outside
    assert "@all" not in outside


@pytest.mark.parametrize("said", ["@all", "https://a.example", "<b>", "[a](b)", "a|b", "`c`", "#1"])
def test_nothing_in_a_warning_acts_in_markdown(said: str) -> None:
    row = replace(CPU, warnings=(f"see {said}\n\n# all",), precision=said)
    assert f"see {said}" not in markdown.text(replace(SHOWN, rows=(row,)))


def test_markdown_says_what_the_page_says(tmp_path: Path) -> None:
    report.write(SHOWN, tmp_path)
    report.write_markdown(tmp_path, tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for said in (
        "4 of 7 variants of 3 models can be served",
        "drop 0.005 of 0.02, 75% left",
        "3.1x smaller",
        "0123456789ab-dirty",
        "abc123def456",
        "build tflite-micro/bundles/parts into the firmware",
        "repo-builder serve build/cpu",
        "accuracy drop 0.07",
        "1 node stays in floating point",
    ):
        assert said in text
        assert said in page
    rows = [line for line in text.splitlines() if line.startswith("| `cpu`")]
    assert {line.count(" | ") for line in rows} == {8}


def test_markdown_needs_a_report_and_a_place(tmp_path: Path) -> None:
    with pytest.raises(report.OutputError, match="build again"):
        report.write_markdown(tmp_path, tmp_path / "report.md")
    report.write(SHOWN, tmp_path)
    with pytest.raises(report.OutputError, match="another --markdown"):
        report.write_markdown(tmp_path, tmp_path / "no" / "report.md")


def test_the_commit_of_the_specs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unavailable: Callable[[str], NoReturn]
) -> None:
    if shutil.which("git") is None:
        unavailable("no git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit(tmp_path) == ""
    assert provenance.commit(tmp_path / "not-there") == ""

    def git(*words: str) -> None:
        names = (
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.com",
            "-c",
            "commit.gpgsign=false",
        )
        command = ["git", "-C", str(tmp_path), *names, *words]
        subprocess.run(command, check=True, capture_output=True)

    git("init", "--quiet")
    (tmp_path / "spec.yaml").write_text("name: a\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    clean = provenance.commit(tmp_path)
    assert len(clean) == 12
    (tmp_path / "spec.yaml").write_text("name: b\n")
    assert provenance.commit(tmp_path) == f"{clean}-dirty"


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (
            Score("accuracy", 0.9, 0.89, 0.01, 400, 0.95, (-0.005, 0.025)),
            "-1.00 points (-2.5 to +0.5)",
        ),
        (Score("accuracy", 0.9, 0.9, 0.0, 400, 0.95, (-0.01, 0.01)), "same (-1 to +1)"),
        (Score("mse", 0.5, 0.6, 0.1, 400, 0.95, (-0.1, 0.3)), "+0.1 (-0.1 to +0.3)"),
        (Score("f1", 0.9, 0.89, 0.01), "-1.00 points"),
    ],
)
def test_a_change_of_score_comes_with_its_interval(score: Score, shown: str) -> None:
    row = replace(CPU, score=score, fp32=None)
    assert view.of(Report((row,), {}, 1.0)).cards[0].lines[0].change == shown


def test_runtimes_are_compared_with_each_other_where_a_search_built_both() -> None:
    found = Search("size", "int8", True, 1.0, 1, ())
    cpu = replace(CPU, search=found, size=30_000, level="executed")
    other = replace(cpu, id="parts@cpu-openvino", target="cpu-openvino", size=20_000)
    assert across.best([cpu, other]) == "smallest on cpu-openvino: 20.0 KB; cpu 30.0 KB"
    facts = view.of(Report((cpu, other), {}, 1.0)).cards[0].facts
    assert "smallest on cpu-openvino: 20.0 KB; cpu 30.0 KB" in facts
    assert across.best([cpu, replace(other, level="prepared")]) == ""
    assert across.best([cpu, replace(other, search=None)]) == ""
    fast = replace(found, objective="latency")
    timed = [
        replace(row, search=fast, latency=Latency(ms, ms, doubt=doubt))
        for row, ms, doubt in ((cpu, 2.0, ""), (other, 1.5, "busy"))
    ]
    assert across.best(timed) == "fastest on cpu-openvino: 1.5 ms; cpu 2 ms ?"
