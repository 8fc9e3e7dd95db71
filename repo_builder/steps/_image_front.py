"""A recipe of `client.models.preprocess` as ONNX operators: uint8 pixels in, the net's input out.

Resizing is as Pillow does it (src/libImaging/Resample.c): first along rows, then along columns,
each rounded to 8 bits. An output pixel `i` of `m`, at a scale of p/q source pixels each, lies at
`center(i) = (n + (2i + 1 - m) p/q) / 2` of `n`, and takes source pixel `j` with the weight
`filter((2j + 1 - 2 center(i)) / (2 max(p/q, 1)))`, weights normalized to a sum of 1. With p/q = n/m
that is a stretched image; with an inner size in place of m a letterbox; with p/q of the side that
fits for both sides a crop. All but the last division is in integers, so it is exact.

Weights as one matrix [m, n] would be zeros nearly everywhere. So outputs are taken in blocks of
about `_BLOCK`, each with the window of sources that it reads: a product of [blocks, block, window]
with gathered pixels, which every runtime has as one fast MatMul.

A runtime's own Resize is no way: OpenVINO ignores `antialias`, ONNX Runtime differs from Pillow by
up to 6 of 255 and is slower, TensorRT refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from repo_builder.client.models.preprocess import LETTERBOX_VALUE, Preprocess
from repo_builder.plan.front import PREFIX
from repo_builder.steps._graph import Graph

OPSET = 13
"""The oldest opset that has these operators in this form."""

_BLOCK = 8
_SUPPORT = {"bilinear": 1, "bicubic": 2}
"""How far a filter reaches, in pixels of the smaller of both images."""


@dataclass(frozen=True)
class _Axis:
    """One axis of the image: names of int64 scalars, see the module's docstring.

    `m` pixels come out, of which `fixed` are known beforehand (0: not); a letterbox has `before`
    others before them.
    """

    name: str
    n: str
    m: str
    p: str
    q: str
    fixed: int
    before: str = ""


class _Front:
    """The graph while it is put together."""

    def __init__(self, recipe: Preprocess) -> None:
        self.recipe = recipe
        self.graph = Graph(PREFIX)
        self._known: dict[int, str] = {}

    def number(self, value: int) -> str:
        """An int64 scalar."""
        if value not in self._known:
            name = f"int_{value}".replace("-", "minus_")
            self._known[value] = self.graph.int64(name, value, scalar=True)
        return self._known[value]

    def of(self, operator: str, name: str, *inputs: str | int, **attributes: Any) -> str:
        """A node; integers among its inputs become constants."""
        given = [self.number(i) if isinstance(i, int) else i for i in inputs]
        return self.graph.add(operator, given, name, **attributes)

    def axes(self, pixels: str) -> tuple[_Axis, _Axis]:
        """Height and width of `pixels` [n, height, width, channels]."""
        rows, columns = self.recipe.size
        shape = self.of("Shape", "shape", pixels)
        # An image without pixels divides nothing by 0 and then has none to gather.
        height = self.of("Max", "height", self.of("Gather", "any_height", shape, 1, axis=0), 1)
        width = self.of("Max", "width", self.of("Gather", "any_width", shape, 2, axis=0), 1)
        m, k = self.number(rows), self.number(columns)
        if self.recipe.fit == "stretch":
            down = _Axis("rows", height, m, height, m, rows)
            return down, _Axis("columns", width, k, width, k, columns)
        by_width = self.of("Mul", "width_by_rows", width, rows)
        by_height = self.of("Mul", "height_by_columns", height, columns)
        wider = self.of("Greater", "wider", by_width, by_height)
        if self.recipe.fit == "crop":
            p = self.of("Where", "source_side", wider, height, width)
            q = self.of("Where", "fitted_side", wider, rows, columns)
            return _Axis("rows", height, m, p, q, rows), _Axis("columns", width, k, p, q, columns)
        tall = self.of("Max", "any_tall", self._rounded("tall", by_height, width), 1)
        wide = self.of("Max", "any_wide", self._rounded("wide", by_width, height), 1)
        m = self.of("Where", "inner_height", wider, tall, rows)
        k = self.of("Where", "inner_width", wider, columns, wide)
        top = self._rounded("top", self.of("Sub", "rows_left", rows, m), 2)
        left = self._rounded("left", self.of("Sub", "columns_left", columns, k), 2)
        down = _Axis("rows", height, m, height, m, 0, top)
        return down, _Axis("columns", width, k, width, k, 0, left)

    def _rounded(self, name: str, dividend: str, divisor: str | int) -> str:
        """The quotient of two integers >= 0, halves to even, as Python rounds."""
        floor = self.of("Div", f"{name}_floor", dividend, divisor)
        rest = self.of(
            "Sub", f"{name}_rest", dividend, self.of("Mul", f"{name}_most", floor, divisor)
        )
        twice = self.of("Mul", f"{name}_twice", rest, 2)
        more = self.of("Greater", f"{name}_more", twice, divisor)
        half = self.of("Equal", f"{name}_half", twice, divisor)
        even = self.of("Mul", f"{name}_even", self.of("Div", f"{name}_by_2", floor, 2), 2)
        odd = self.of("Greater", f"{name}_odd", floor, even)
        up = self.of("Or", f"{name}_up", more, self.of("And", f"{name}_half_odd", half, odd))
        one = self.of("Cast", f"{name}_one", up, to=7)  # TensorProto.INT64
        return self.of("Add", f"{name}_rounded", floor, one)

    def windows(self, axis: _Axis) -> tuple[str, str, str]:
        """For blocks of output pixels: sources [blocks, window], weights [blocks, block, window].

        Also their number of pixels, [1]; the last block may have more than there are.
        """
        a = axis.name
        over = self.of("Add", f"{a}_over", axis.m, _BLOCK - 1)
        count = self.of("Mul", f"{a}_count", self.of("Div", f"{a}_blocks", over, _BLOCK), _BLOCK)
        twice = self.of("Mul", f"{a}_twice", count, 2)
        odd = self.of("Range", f"{a}_odd", 1, twice, 2)
        at = self.of("Sub", f"{a}_from_middle", odd, axis.m)
        at = self.of("Mul", f"{a}_at", at, axis.p)
        at = self.of("Reshape", f"{a}_at_blocks", at, self.shape(f"{a}_grid", -1, _BLOCK, 1))
        support = _SUPPORT[self.recipe.resize]
        span = self.of("Max", f"{a}_span", axis.p, axis.q)
        reach = self.of("Mul", f"{a}_reach", span, 2 * support)
        among = self.of("Mul", f"{a}_among", axis.p, _BLOCK - 1)
        within = self.of(
            "Div", f"{a}_within", self.of("Add", f"{a}_of_block", among, reach), axis.q
        )
        window = self.of("Min", f"{a}_window", self.of("Add", f"{a}_wide", within, 2), axis.n)

        middle = self.of("Mul", f"{a}_middle", axis.n, axis.q)
        first = self.of("Gather", f"{a}_first", at, self.graph.int64(f"{a}_zero", 0), axis=1)
        first = self.of("Reshape", f"{a}_first_flat", first, self.shape(f"{a}_column", -1, 1))
        low = self.of("Sub", f"{a}_low", self.of("Add", f"{a}_first_center", first, middle), reach)
        low = self.of("Max", f"{a}_low_inside", low, 0)
        start = self.of("Div", f"{a}_start", low, self.of("Mul", f"{a}_2q", axis.q, 2))
        latest = self.of("Sub", f"{a}_latest", axis.n, window)
        start = self.of("Min", f"{a}_start_inside", start, latest)
        sources = self.of(
            "Add", f"{a}_sources", start, self.of("Range", f"{a}_range", 0, window, 1)
        )

        odd = self.of("Add", f"{a}_odd_source", self.of("Mul", f"{a}_even", sources, 2), 1)
        there = self.of(
            "Mul", f"{a}_there", self.of("Sub", f"{a}_source_middle", odd, axis.n), axis.q
        )
        there = self.of("Reshape", f"{a}_there_blocks", there, self.shape(f"{a}_sides", 0, 1, -1))
        apart = self.of("Abs", f"{a}_apart", self.of("Sub", f"{a}_signed", there, at))
        distance = self.of(
            "Div",
            f"{a}_distance",
            self.float(apart, f"{a}_apart_float"),
            self.float(self.of("Mul", f"{a}_2_span", span, 2), f"{a}_span_float"),
        )
        raw = self._filter(a, distance)
        total = self.of(
            "MatMul", f"{a}_total", raw, self._ones(a, window)
        )  # a sum over the window, by an operator that is the same in every opset
        least = self.graph.float32(f"{a}_least", 1e-3, scalar=True)  # beside the image: masked
        total = self.of("Max", f"{a}_total_positive", total, least)
        flat = self.of("Reshape", f"{a}_count_flat", count, self.shape(f"{a}_of_count", 1))
        return sources, self.of("Div", f"{a}_weights", raw, total), flat

    def _ones(self, a: str, window: str) -> str:
        one = self.of("Reshape", f"{a}_window_flat", window, self.shape(f"{a}_flat", 1))
        shape = self.of("Concat", f"{a}_ones_shape", one, self.shape(f"{a}_one", 1), axis=0)
        return self.of("Expand", f"{a}_ones", self.graph.float32(f"{a}_1", 1.0), shape)

    def _filter(self, a: str, x: str) -> str:
        """The weight at a distance: a triangle, or Keys' cubic with a = -0.5."""
        g, of = self.graph, self.of
        one = g.float32(f"{a}_unit", 1.0, scalar=True)
        if self.recipe.resize == "bilinear":
            return of("Relu", f"{a}_triangle", of("Sub", f"{a}_slope", one, x))

        def polynomial(name: str, *factors: float) -> str:
            value = g.float32(f"{a}_{name}_0", factors[0], scalar=True)
            for i, factor in enumerate(factors[1:], 1):
                value = of("Mul", f"{a}_{name}_times_{i}", value, x)
                more = g.float32(f"{a}_{name}_{i}", factor, scalar=True)
                value = of("Add", f"{a}_{name}_plus_{i}", value, more)
            return value

        near = polynomial("near", 1.5, -2.5, 0.0, 1.0)
        far = polynomial("far", -0.5, 2.5, -4.0, 2.0)
        two, zero = (g.float32(f"{a}_{n}", v, scalar=True) for n, v in (("two", 2), ("none", 0)))
        tail = of("Where", f"{a}_tail", of("Less", f"{a}_is_far", x, two), far, zero)
        return of("Where", f"{a}_cubic", of("Less", f"{a}_is_near", x, one), near, tail)

    def shape(self, name: str, *sizes: int) -> str:
        return self.graph.int64(f"{name}_shape", *sizes)

    def float(self, value: str, name: str) -> str:
        return self.of("Cast", name, value, to=1)  # TensorProto.FLOAT

    def resized(self, pixels: str, *, cast_first: bool) -> str:
        """Pixels of the recipe's size as [n, width, channels, height], whole numbers in float32.

        Rows are joined first, as lines of all columns; then columns, as lines of all rows: so both
        are products of large matrices, where each pixel alone would be one of three columns.
        """
        down, across = self.axes(pixels)
        channels = self.recipe.channels
        if cast_first:
            pixels = self.float(pixels, "float")
        value = self.of("Reshape", "lines", pixels, self.shape("lines", 0, 0, -1))
        sources, weights, count = self.windows(down)
        value = self.of("Gather", "rows_read", value, sources, axis=1)
        value = value if cast_first else self.float(value, "rows_float")
        value = self.of("MatMul", "rows_sum", weights, value)
        wide = self.of("Reshape", "width_flat", across.n, self.shape("width", 1))
        ends = (self.shape("image_first", 0), count, wide, self.shape("image_last", channels))
        value = self._joined(value, down, self.of("Concat", "image", *ends, axis=0))
        value = self.of("Transpose", "turned", value, perm=[0, 2, 3, 1])
        value = self.of("Reshape", "turned_lines", value, self.shape("turned", 0, 0, -1))
        sources, weights, count = self.windows(across)
        value = self.of("Gather", "columns_read", value, sources, axis=1)
        value = self.of("MatMul", "columns_sum", weights, value)
        tall = self.of("Reshape", "height_flat", down.m, self.shape("height", 1))
        parts = (self.shape("turned_first", 0), count, self.shape("turned_last", channels), tall)
        value = self._joined(value, across, self.of("Concat", "turned_image", *parts, axis=0))
        half = self.graph.float32("half", 0.5, scalar=True)  # halves up, as Pillow rounds
        value = self.of("Floor", "whole", self.of("Add", "half_more", value, half))
        if self.recipe.resize == "bicubic":  # which alone leaves the range
            limits = (self.graph.float32(f"end_{v}", v, scalar=True) for v in (0, 255))
            value = self.of("Clip", "clipped", value, *limits)
        return self._padded(value, down, across) if self.recipe.fit == "letterbox" else value

    def _padded(self, value: str, down: _Axis, across: _Axis) -> str:
        rows, columns = self.recipe.size
        both: list[str | int] = []
        for axis, size in ((down, rows), (across, columns)):
            rest = self.of("Sub", f"{axis.name}_pads", size, axis.m)
            both.append(self.of("Sub", f"{axis.name}_after", rest, axis.before))
        one = self.shape("pad", 1)
        befores = [self.of("Reshape", f"{x.name}_pad_first", x.before, one) for x in (down, across)]
        afters = [self.of("Reshape", f"pad_last_{i}", x, one) for i, x in enumerate(both)]
        none = self.graph.int64("no_pad", 0)
        top, left, bottom, right = (*befores, *afters)
        sides = (none, left, none, top, none, right, none, bottom)
        pads = self.of("Concat", "pads", *sides, axis=0)
        grey = self.graph.float32("letterbox_value", LETTERBOX_VALUE, scalar=True)
        return self.of("Pad", "padded", value, pads, grey)

    def _joined(self, value: str, axis: _Axis, shape: str) -> str:
        """Blocks joined along dimension 1, and the last cut off where it is not full."""
        a = axis.name
        value = self.of("Reshape", f"{a}_joined", value, shape)
        if axis.fixed and axis.fixed % _BLOCK == 0:
            return value
        end = self.of("Reshape", f"{a}_end", axis.m, self.shape(f"{a}_1", 1))
        first, dim = (self.graph.int64(f"{a}_cut_{n}", v) for n, v in (("from", 0), ("at", 1)))
        return self.of("Slice", f"{a}_cut", value, first, end, dim)

    def normalized(self, value: str, dtype: int, *, turned: bool) -> str:
        """Colours, scale, mean, std and layout of the recipe; `dtype` is ONNX's element type.

        `turned`: whether `value` is as of `resized`, and not [n, height, width, channels].
        """
        recipe, g = self.recipe, self.graph
        channels = (-1, 1) if turned else (-1,)
        if recipe.color == "bgr":
            value = self.of(
                "Gather", "bgr", value, g.int64("bgr_order", 2, 1, 0), axis=2 if turned else 3
            )
        value = self.of("Mul", "scaled", value, g.float32("scale", recipe.scale, scalar=True))
        if recipe.mean:
            mean = g.constant("mean", np.array(recipe.mean, np.float32).reshape(channels))
            value = self.of("Sub", "centered", value, mean)
        if recipe.std:
            std = g.constant("std", np.array(recipe.std, np.float32).reshape(channels))
            value = self.of("Div", "standardized", value, std)
        orders = ([0, 2, 3, 1], [0, 3, 1, 2]) if turned else ([0, 3, 1, 2], [0, 1, 2, 3])
        order = orders[recipe.layout == "NHWC"]
        if order != [0, 1, 2, 3]:
            value = self.of("Transpose", "laid_out", value, perm=order)
        if dtype == 1:
            return value
        if dtype not in (10, 11, 16):  # half, double, bfloat16
            value = self.of("Round", "rounded", value)
        return self.of("Cast", "cast", value, to=dtype)


def front(recipe: Preprocess, pixels: str, dtype: int, *, cast_first: bool) -> tuple[Graph, str]:
    """The operators from `pixels`, and their last output.

    `pixels` are uint8 [n, height, width, channels], gray or RGB. The output's element type is
    ONNX's `dtype`. `cast_first`: pixels become floats before all else, as
    TensorRT wants it. Where the source of the recipe has its size, nothing is resized.
    """
    made = _Front(recipe)
    if recipe.source == recipe.size:
        value = made.float(pixels, "float")
        return made.graph, made.normalized(value, dtype, turned=False)
    value = made.resized(pixels, cast_first=cast_first)
    return made.graph, made.normalized(value, dtype, turned=True)
