"""Who is visited next, when it is enough, and what two runs have in common; no model runs here."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from repo_builder.base.errors import OutputError
from repo_builder.base.hardware import Hardware, State
from repo_builder.base.histogram import Histogram
from repo_builder.tune.measure import compare, page, read, rounds, show
from repo_builder.tune.measure.rounds import LEAST_ROUNDS, Limits, Rounds
from repo_builder.tune.measure.types import Measured, Memory, Sample, Subject, Visit, of_json

PC = Hardware("Some CPU", "amd64", 2, 2, None, ("avx2",), (), None, 8192.0, False, "Linux 6")
IDLE = State(2600.0, None, None, 0.1)


def subject(name: str, precision: str = "int8") -> Subject:
    return Subject(name, "cpu", precision, "onnxruntime", Path(name), None, "d" * 64)


def visit(ms: float, doubt: str = "", runs: int = 50) -> Visit:
    tail = Histogram.of([ms / 1e3] * runs).as_json()
    sample = Sample(1, runs, runs * ms / 1e3, 1e3 / ms, ms, tail)
    return Visit((sample,), 0.5 if doubt else 0.0, 0.0, doubt)


def clock() -> Callable[[], float]:
    ticks: Iterator[int] = iter(range(10**6))
    return lambda: float(next(ticks))


def noisy(mean: float, spread: float, seed: int) -> Callable[[], Visit]:
    draw = random.Random(seed)  # noqa: S311
    return lambda: visit(draw.gauss(mean, spread))


def measured(cells: Rounds, **changes: object) -> Measured:
    made = Measured(
        "2026-11-28T04:00:00Z", 1.0, cells.done, 0.03, PC, IDLE, IDLE, {"onnxruntime": "1.32"},
        cells.cells(0.03),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def ran(ms: float, seed: int, names: tuple[str, ...] = ("a",), spread: float = 0.01) -> Measured:
    seen = Rounds([subject(name) for name in names])
    visits = {one: noisy(ms, spread * ms, seed + i) for i, one in enumerate(seen.subjects)}
    rounds.run(seen, Limits(0.02, 60), lambda one: visits[one](), clock())
    for one in seen.subjects:
        seen.memory[one, 1] = Memory(50.0, 10.0)
    return measured(seen)


def test_rounds_turn_and_end_when_all_is_narrow() -> None:
    order: list[str] = []
    seen = Rounds([subject("a"), subject("b")])

    def made(one: Subject) -> Visit:
        order.append(one.model)
        return visit(1.0)

    rounds.run(seen, Limits(0.03, 1e9), made, clock())
    assert "".join(order) == "abba" * (LEAST_ROUNDS // 2)
    assert all(cell.narrow and not cell.doubt for cell in seen.cells(0.03))


def test_only_what_is_wide_goes_on_until_the_time_is_up() -> None:
    seen = Rounds([subject("steady"), subject("wild")])
    wild = noisy(1.0, 0.3, 1)

    def made(one: Subject) -> Visit:
        return wild() if one.model == "wild" else visit(1.0)

    rounds.run(seen, Limits(0.001, 60), made, clock())
    assert len(seen.visits[subject("steady")]) == LEAST_ROUNDS
    assert seen.done > LEAST_ROUNDS
    narrow = {cell.model: cell.narrow for cell in seen.cells(0.001)}
    assert narrow == {"steady": True, "wild": False}
    told = " ".join(show.sentences(dataclasses.replace(measured(seen), within=0.001)))
    assert "intervals are wider than +-0.1%" in told
    assert "(wild int8 onnxruntime, batch 1)" in told


def test_a_visit_beside_others_is_made_again_and_told_where_that_does_not_help() -> None:
    seen = Rounds([subject("once"), subject("always")])
    asked = {"once": 0, "always": 0}

    def made(one: Subject) -> Visit:
        asked[one.model] += 1
        busy = one.model == "always" or asked["once"] == 1
        return visit(1.0, "others used 50% of the processor" if busy else "")

    rounds.run(seen, Limits(0.03, 1e9), made, clock())
    once, always = seen.cells(0.03)
    assert (once.repeated, once.doubt) == (1, "")
    assert always.repeated == 3 * LEAST_ROUNDS
    assert always.doubt == "others used 50% of the processor (in 10 of 10 visits)"
    said = show.table(measured(seen))
    assert said.count("?") == 1


def test_what_fails_is_dropped_and_the_others_go_on() -> None:
    seen = Rounds([subject("good"), subject("bad")])

    def made(one: Subject) -> Visit | None:
        return None if one.model == "bad" and seen.done == 2 else visit(1.0)

    rounds.run(seen, Limits(0.03, 60), made, clock())
    assert [cell.model for cell in seen.cells(0.03)] == ["good"]
    assert seen.done == LEAST_ROUNDS


def test_what_broke_off_is_still_told() -> None:
    seen = Rounds([subject("a")])
    left = [visit(1.0), visit(1.1)]

    def made(_: Subject) -> Visit:
        if not left:
            raise KeyboardInterrupt
        return left.pop()

    with pytest.raises(KeyboardInterrupt):
        rounds.run(seen, Limits(0.03, 60), made, clock())
    (cell,) = seen.cells(0.03)
    assert (len(cell.visits), cell.rows_per_second.low, cell.narrow) == (2, None, False)
    assert "-" in show.row(cell)


def test_a_tail_needs_runs() -> None:
    few, many = Rounds([subject("a")]), Rounds([subject("a")])
    for seen, runs in ((few, 9), (many, 50)):
        for number in range(LEAST_ROUNDS):
            seen.add(subject("a"), visit(1.0 + number / 100, runs=runs))
    assert few.cells(0.03)[0].p99_ms is None
    tail = many.cells(0.03)[0].p99_ms
    assert tail is not None
    assert tail.low is not None
    assert tail.high is not None
    assert tail.low < 1.09 < tail.high


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    made = ran(1.0, 1, ("a", "b"))
    assert of_json(json.loads(json.dumps(made.as_json()))) == made
    file = tmp_path / "run.json"
    file.write_text(json.dumps(made.as_json()))
    assert read(file) == made


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', '{"format": 99}', "\x00"])
def test_a_file_that_is_no_run(tmp_path: Path, text: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(text)
    with pytest.raises(OutputError, match="is no run of `measure`"):
        read(file)
    with pytest.raises(OutputError, match="no such file"):
        read(tmp_path / "none.json")


def test_what_changed_beyond_noise() -> None:
    names = tuple("abcdefghij")
    before = ran(1.0, 1, names)
    now = ran(1.0, 101, names)
    quick = ran(0.8, 7).cells[0]
    now = dataclasses.replace(now, cells=(*now.cells[1:], quick))
    found = compare.of(now, before)
    assert {one.name: one.verdict for one in found.changes if one.verdict != "same"} == {
        quick.name: "faster"
    }
    (change,) = [one for one in found.changes if one.verdict == "faster"]
    assert change.low is not None
    assert change.high is not None
    assert change.low < 1.25 < change.high
    assert found.confidence == pytest.approx(0.995)
    assert "99.5 % confidence, so that all 10 together keep 95%" in found.sentence
    assert not found.other_machine


def test_equal_runs_seldom_seem_to_differ() -> None:
    """With 20 cells each, at most 5 % of pairs of runs may claim a difference; 5 of 40 is far off
    (chance below 0.05)."""
    names = tuple(f"m{i}" for i in range(20))
    claims = 0
    for seed in range(40):
        pair = ran(1.0, 1000 * seed, names), ran(1.0, 1000 * seed + 500, names)
        verdicts = {one.verdict for one in compare.of(*pair).changes}
        claims += verdicts != {"same"}
    assert claims <= 5


def test_other_machines_and_doubts_are_told() -> None:
    before = ran(1.0, 1)
    other = dataclasses.replace(PC, cpu="Another", cores=8)
    found = compare.of(ran(1.0, 2), dataclasses.replace(before, hardware=other))
    assert found.other_machine == (
        "another machine or other settings: cpu Another, now Some CPU; cores 8, now 2"
    )
    threads = compare.of(dataclasses.replace(before, threads=1), before)
    assert threads.other_machine == "other settings: threads 0, now 1"
    tools = compare.of(dataclasses.replace(before, tools={"onnxruntime": "1.33"}), before)
    assert tools.other_machine == "other runtimes: onnxruntime 1.32, now 1.33"
    doubtful = dataclasses.replace(before.cells[0], doubt="others used 40% of the processor")
    (change,) = compare.of(dataclasses.replace(before, cells=(doubtful,)), before).changes
    assert (change.verdict, change.why) == ("unknown", "now: others used 40% of the processor")


def test_cells_of_one_run_only_and_memory() -> None:
    before = ran(1.0, 1, ("a", "b"))
    cell = before.cells[1]
    larger = dataclasses.replace(cell, memory=Memory(60.0, 20.0), digest="e" * 64)
    now = dataclasses.replace(before, cells=(larger, dataclasses.replace(cell, batch=8)))
    found = compare.of(now, before)
    assert found.gone == (before.cells[0].name,)
    assert found.new == ("b int8 onnxruntime, batch 8",)
    (change,) = found.changes
    assert (change.memory_mb, change.rebuilt, change.verdict) == (10.0, True, "same")
    assert show.changes(found) == [
        ("b int8 onnxruntime, batch 1 (rebuilt)", "1.000x", *show.changes(found)[0][2:4],
         "same, +10.0 MB"),
    ]  # fmt: skip


def test_pages_escape_what_they_are_told() -> None:
    evil = "<script>alert(1)</script>"
    made = ran(1.0, 1)
    cells = (dataclasses.replace(made.cells[0], model=evil),)
    made = dataclasses.replace(made, cells=cells, left_out=(evil,))
    for text in (page.page(made), show.markdown(made)):
        assert evil not in text
        assert "&lt;script" in text
