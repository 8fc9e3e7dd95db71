"""The chooser of a search: it sees figures alone, so every course can be written down."""

from __future__ import annotations

import math

import pytest

from repo_builder.build.search import choose
from repo_builder.build.search.candidates import Candidate
from repo_builder.build.search.choose import Result
from repo_builder.spec.search import SearchObjective
from repo_builder.spec.types import Optimize

A1, A2, A3 = (Candidate(f"int8 {way}", "int8", 0.3, Optimize()) for way in ("a", "b", "c"))
H, F = (Candidate(name, name, share, Optimize()) for name, share in (("fp16", 0.5), ("fp32", 1.0)))
ALL = (A1, A2, A3, H, F)


def _course(answers: dict[str, Result], objective: SearchObjective) -> tuple[list[str], str]:
    """The order in which candidates are tried, and the winner."""
    results: dict[str, Result] = {}
    while (one := choose.following(ALL, results, objective)) is not None:
        assert one.name not in results
        results[one.name] = answers[one.name]
    best = choose.winner(ALL, results, objective)
    return list(results), best.name if best else ""


def test_one_of_each_kind_tells_what_there_is_to_win() -> None:
    answers = {"int8 a": Result(30), "fp16": Result(50), "fp32": Result(100)}
    assert _course(answers, "size") == (["int8 a", "fp16"], "int8 a")
    timed = {name: Result(one.size, (1.0, 1.0, 1.0)) for name, one in answers.items()}
    assert _course(timed, "latency")[0] == ["int8 a", "fp16", "fp32"]


def test_others_of_a_kind_are_tried_while_they_would_win() -> None:
    bad = Result(30, drop=0.1, problem="drop 0.1 > 0.01")
    answers = {"int8 a": bad, "int8 b": Result(30), "fp16": Result(50), "fp32": Result(100)}
    assert _course(answers, "size") == (["int8 a", "fp16", "fp32", "int8 b"], "int8 b")


def test_none_is_tried_of_a_kind_that_would_not_win() -> None:
    answers = {
        "int8 a": Result(60, problem="drop"),
        "fp16": Result(50),
        "fp32": Result(100),
    }
    assert _course(answers, "size") == (["int8 a", "fp16", "fp32"], "fp16")


def test_a_kind_whose_first_cannot_be_built_gets_other_chances() -> None:
    answers = {
        "int8 a": Result(problem="quantize failed"),
        "int8 b": Result(30),
        "fp16": Result(50),
        "fp32": Result(100),
    }
    assert _course(answers, "size")[1] == "int8 b"


def test_nothing_wins_where_nothing_is_good() -> None:
    answers = {one.name: Result(10, problem="size") for one in ALL}
    order, best = _course(answers, "size")
    assert sorted(order) == sorted(one.name for one in ALL)
    assert best == ""


def test_speed_counts_only_beyond_its_spread() -> None:
    answers = {
        "int8 a": Result(30, (1.1, 1.5, 1.9), drop=0.004),
        "fp16": Result(50, (1.4, 1.6, 1.8), drop=0.0),
        "fp32": Result(100, (1.0, 1.0, 1.0), drop=0.0),
    }
    assert _course(answers, "latency")[1] == "int8 a"  # as fast as far as can be told, and smaller
    clear = {**answers, "fp16": Result(50, (2.1, 2.2, 2.3), drop=0.0)}
    assert _course(clear, "latency")[1] == "fp16"


def test_of_equal_sizes_the_one_that_loses_less_wins() -> None:
    results = {"int8 a": Result(1000, drop=0.01), "fp16": Result(1010, drop=0.0)}
    best = choose.winner(ALL, results, "size")
    assert best is not None
    assert best.name == "fp16"


def test_what_was_not_timed_does_not_win_by_speed() -> None:
    results = {"int8 a": Result(10, drop=0.0), "fp32": Result(100, (1.0, 1.0, 1.0), drop=0.0)}
    best = choose.winner(ALL, results, "latency")
    assert best is not None
    assert best.name == "fp32"


def test_a_winner_that_fails_on_other_rows_is_out_and_others_have_their_turn() -> None:
    results = {
        "int8 a": Result(30, refuted="drop 0.02 > 0.01"),
        "fp16": Result(50),
        "fp32": Result(100),
    }
    following = choose.following(ALL, results, "size")
    assert following is not None
    assert following.name == "int8 b"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("int8 a", "drop 0.1 > 0.01"),
        ("int8 b", ""),
        ("int8 c", "not tried: could not beat int8 b"),
        ("fp16", "on rows that chose nothing: drop"),
        ("fp32", "3.33x larger than int8 b"),
    ],
)
def test_every_loser_is_told_why(name: str, said: str) -> None:
    results = {
        "int8 a": Result(30, problem="drop 0.1 > 0.01"),
        "int8 b": Result(30),
        "fp16": Result(20, refuted="drop"),
        "fp32": Result(100),
    }
    one = next(one for one in ALL if one.name == name)
    assert choose.why_not(one, results, A2, "size") == said


def test_equals_are_told_what_decided() -> None:
    results = {
        "int8 a": Result(30, (1.9, 2.0, 2.1), drop=0.0),
        "fp16": Result(50, (1.8, 2.0, 2.2), drop=0.0),
        "fp32": Result(100, (1.0, 1.0, 1.0), drop=0.0),
    }
    assert choose.why_not(H, results, A1, "latency") == "as good as int8 a, but larger"
    assert choose.why_not(F, results, A1, "latency") == "2x slower than int8 a"
    close = {"int8 a": Result(1000, drop=0.01), "fp16": Result(1010, drop=0.0)}
    assert choose.why_not(A1, close, H, "size") == "as good as fp16, but loses more"


def test_without_a_figure_the_cost_is_not_known() -> None:
    assert math.isinf(Result().cost("size"))
    assert math.isinf(Result(5).cost("latency"))
    assert Result(5, (1.0, 2.0, 3.0)).cost("latency") == 0.5


def test_time_that_is_up_is_told() -> None:
    assert choose.why_not(A3, {}, None, "size") == "not tried: the time was up"


def test_energy_counts_as_speed_does() -> None:
    results = {
        "int8 a": Result(30, (3.0, 3.0, 3.0), (1.9, 2.0, 2.1), drop=0.0),
        "fp16": Result(50, (1.0, 1.0, 1.0), (2.3, 2.5, 2.6), drop=0.0),
        "fp32": Result(100, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), drop=0.0),
    }
    best = choose.winner(ALL, results, "energy")
    assert best is not None
    assert best.name == "fp16"
    assert choose.why_not(F, results, best, "energy") == "2.5x the energy of fp16"
    assert choose.why_not(A1, results, best, "energy") == "1.25x the energy of fp16"
