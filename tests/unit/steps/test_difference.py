"""How far answers lie apart, by value; what passes which limit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from repo_builder.steps._columns import groups
from repo_builder.steps._difference import Difference, compare
from repo_builder.steps._limits import DEFAULTS, broken, limits

RANDOM = np.random.default_rng(0)
INT8 = DEFAULTS["int8"]


def of(source: Any, built: Any, **asked: bool) -> Difference:
    """One run."""
    return compare("y", [np.asarray(source)], [np.asarray(built)], **asked)


def rows(array: Any) -> Sequence[Any]:
    """A run for each row."""
    return [array[i : i + 1] for i in range(len(array))]


def test_figures_of_a_whole_output() -> None:
    found = of(np.array([3.0, 4.0]), np.array([3.0, 5.0]))
    assert (found.max_abs, found.mean_abs, found.relative) == (1, 0.5, 0.2)
    assert found.cosine == pytest.approx(29 / (5 * np.sqrt(34)))


def test_equal_answers() -> None:
    x = RANDOM.standard_normal((20, 7)).astype(np.float32)
    assert compare("y", rows(x), rows(x.copy())) == Difference("y")


def test_a_source_of_zeros_is_measured_in_absolute_terms() -> None:
    assert of(np.zeros(4), np.full(4, 0.5)).relative == 0.5
    assert of(np.zeros(4), np.full(4, 1e-9)).relative == pytest.approx(1e-9)


def test_what_is_not_finite_must_be_so_on_both_sides() -> None:
    source = np.array([1.0, np.inf, np.nan, -np.inf], np.float32)
    assert of(source, source.copy()) == Difference("y")
    for place, value in ((0, np.nan), (0, np.inf), (1, 7), (1, np.nan), (3, -3.4e38)):
        built = source.copy()
        built[place] = value
        assert of(source, built).misplaced == 1
    assert of(source, -source).misplaced == 2


def test_where_the_source_is_nan_nothing_is_known() -> None:
    """A row that the model was not made for, such as one without any word."""
    source = np.array([1.0, np.nan, 3.0])
    assert of(source, np.array([1.0, 5.0, 3.0])) == Difference("y")
    nothing = of(np.full(3, np.nan), np.ones(3))
    assert broken(nothing, INT8) == "output 'y' has only NaN in the source, which proves nothing"


@pytest.mark.parametrize(
    ("source", "built", "said"),
    [
        ((7, 1, 5), (1, 35), "shape [1, 35] instead of [7, 1, 5]"),
        ((2, 1), (3, 1), "shape [3, 1] instead of [2, 1]"),
        ((1, 4), (4,), "shape [4] instead of [1, 4]"),
        ((), (1,), "shape [1] instead of []"),
    ],
)
def test_another_shape_or_rank_is_never_comparable(
    source: tuple[int, ...], built: tuple[int, ...], said: str
) -> None:
    found = of(np.ones(source), np.ones(built))
    assert found.shape == said
    assert broken(found, limits("int8", 9, 9, 1)) == f"output 'y' has {said}"


def test_another_type_is_a_fault_but_for_numbers_where_that_is_allowed() -> None:
    source, built = np.array([1, 2]), np.array([1.0, 2.0], np.float32)
    assert of(source, built).shape == "type float32 instead of int64"
    assert of(source, built, same_type=False).shape == ""
    assert of(np.array(["a"]), np.array([1]), same_type=False).shape != ""
    assert of(np.array(["a"]), np.array(["a"], dtype=object)).shape == ""


def test_lengths_that_depend_on_the_data() -> None:
    """The second dimension is as long as what was found; runs of other lengths are left out."""
    source = [np.ones((1, n, 4)) for n in (2, 3, 5)]
    found = compare("y", source, [np.ones((1, n, 4)) for n in (2, 4, 5)])
    assert (found.shape, found.left_out, found.relative) == ("", 1, 0)
    none = compare("y", source, [np.ones((1, n + 1, 4)) for n in (2, 3, 5)])
    assert none.shape == "shape [1, 3, 4] instead of [1, 2, 4], on every row"
    assert "instead of" in compare("y", source, [np.ones((1, n, 3)) for n in (2, 3, 5)]).shape


def test_words_and_integers_count_as_equal_or_not() -> None:
    words = of(np.array(["a", "b"]), np.array(["a", "c"], dtype=object))
    assert (words.relative, words.labels, words.mean_abs) == (0.5, 0.5, 0.5)
    whole = of(np.array([1, 2, 3, 2**40]), np.array([1, 2, 3, 0]))
    assert (whole.labels, whole.max_abs) == (0.25, 2**40)


def test_groups_of_columns_by_magnitude() -> None:
    peaks = np.array([500.0, 0.9, 0.0, 640.0, 0.2, 0.001])
    assert [sorted(group) for group in groups(peaks)] == [[5], [1, 4], [0, 3]]
    assert groups(np.zeros(3)) == []


@pytest.mark.parametrize("axis", [1, 2])
def test_scores_that_are_lost_beside_boxes_in_pixels(axis: int) -> None:
    """[n, 7, 16] or [n, 16, 7]: four columns up to 512, three up to 1 that become 0."""
    boxes = RANDOM.uniform(0, 512, (32, 4, 16))
    source = np.concatenate([boxes, RANDOM.uniform(0, 1, (32, 3, 16))], axis=1)
    built = source.copy()
    built[:, 4:] = 0
    if axis == 2:
        source, built = source.transpose(0, 2, 1), built.transpose(0, 2, 1)
    found = compare("y", rows(source), rows(built))
    assert found.relative < 0.01
    assert found.cosine > 0.9999
    assert found.columns > 1
    said = broken(found, INT8)
    assert said.startswith("output 'y' differs by 2 of how its columns vary > 0.6, most in column")
    assert f"of dimension {axis}" in said


def test_good_int8_of_boxes_and_scores_passes() -> None:
    """Each quantized in 8 bits on its own, as a head taken apart is."""
    boxes, scores = RANDOM.uniform(0, 640, (32, 4, 50)), RANDOM.uniform(0, 1, (32, 80, 50)) ** 8
    source = np.concatenate([boxes, scores], axis=1)
    built = np.concatenate(
        [np.round(boxes / 2.5) * 2.5, np.round(scores * 256) / 256], axis=1
    ) + RANDOM.normal(0, 1e-3, source.shape)
    assert broken(compare("y", rows(source), rows(built)), INT8) == ""


def test_a_class_that_is_never_there_need_not_vary() -> None:
    """Its scores lie below a step of 8 bits and become 0."""
    scores = np.concatenate(
        [RANDOM.uniform(0, 1, (32, 3)), RANDOM.uniform(0, 1e-3, (32, 1))], axis=1
    )
    built = np.round(scores * 256) / 256
    assert broken(compare("y", rows(scores), rows(built)), INT8) == ""


def test_a_single_dead_column_is_named() -> None:
    source = RANDOM.standard_normal((64, 100))
    built = source.copy()
    built[:, 37] = 0
    found = compare("y", rows(source), rows(built))
    assert found.relative < 0.2
    assert found.column > 0.9
    assert "in column 37 of dimension 1" in broken(found, INT8)


def test_outputs_that_hardly_vary_are_measured_against_their_mean() -> None:
    source = 320 + RANDOM.normal(0, 1e-3, (32, 4))
    built = source + RANDOM.normal(0, 0.1, (32, 4))
    assert broken(compare("y", rows(source), rows(built)), DEFAULTS["fp16"]) == ""


def test_a_constant_in_place_of_what_varies_about_a_mean() -> None:
    source = 320 + RANDOM.normal(0, 60, (32, 4))
    found = compare("y", rows(source), rows(np.full((32, 4), 320.0)))
    assert found.relative < 0.2
    assert found.columns > 0.9


def test_labels_of_a_classifier() -> None:
    scores = RANDOM.standard_normal((200, 10)) * 3
    turned = scores.copy()
    turned[:40] = np.roll(turned[:40], 1, axis=1)
    assert compare("y", rows(scores), rows(turned)).labels is None  # nobody said that these are
    found = compare("y", rows(scores), rows(turned), classifier=True)
    assert found.labels == pytest.approx(0.2, abs=0.03)


def test_rows_that_are_distributions_are_taken_for_a_classifier() -> None:
    scores = np.exp(RANDOM.standard_normal((64, 5)) * 3)
    scores /= scores.sum(axis=1, keepdims=True)
    assert compare("y", rows(scores), rows(np.roll(scores, 1, axis=1))).labels == 1
    assert compare("y", rows(scores), rows(scores * 0.9 + 0.02)).labels == 0


def test_near_ties_are_no_labels() -> None:
    """The two largest differ by less than a tenth of the row's range."""
    scores = np.array([[0.0, 1.0, 0.95]] * 20)
    other = np.array([[0.0, 0.95, 1.0]] * 20)
    assert compare("y", rows(scores), rows(other), classifier=True).labels is None


def test_each_limit_and_nan_passes_none() -> None:
    allowed = limits("fp32", relative=0.5)
    assert (allowed.relative, allowed.columns) == (0.5, DEFAULTS["fp32"].columns)
    assert (
        broken(Difference("y", relative=0.5, columns=0.01, column=0.03, labels=0.01), allowed) == ""
    )
    for wrong in (
        Difference("y", relative=0.51),
        Difference("y", columns=0.02),
        Difference("y", column=0.04),
        Difference("y", labels=0.02),
        Difference("y", misplaced=1),
        Difference("y", relative=float("nan")),
        Difference("y", columns=float("nan")),
    ):
        assert broken(wrong, allowed).startswith("output 'y' ")


def test_limits_grow_with_coarser_arithmetic() -> None:
    order = [DEFAULTS[name] for name in ("fp32", "fp16", "bf16", "int8")]
    for finer, coarser in itertools.pairwise(order):
        assert finer.relative < coarser.relative
        assert finer.columns < coarser.columns < coarser.column
        assert finer.labels < coarser.labels
