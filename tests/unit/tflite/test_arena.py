"""The arena planner: buffers that live together never overlap, and gaps are used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from repo_builder.tflite.arena import Buffer, plan

BUFFERS = st.lists(
    st.builds(
        lambda size, first, length: Buffer(size, first, first + length),
        st.integers(1, 500),
        st.integers(0, 8),
        st.integers(0, 4),
    ),
    min_size=1,
    max_size=12,
)


def test_a_chain_needs_its_largest_neighbours() -> None:
    chain = [Buffer(size, i, i + 1) for i, size in enumerate((160, 320, 64, 16))]
    assert plan(chain) == 160 + 320


def test_alternating_lifetimes_share_room() -> None:
    assert plan([Buffer(100, 0, 0), Buffer(100, 1, 1), Buffer(10, 2, 2)]) == 112


def test_what_the_compiler_placed_stays_there() -> None:
    assert plan([Buffer(64, 0, 1, offset=0), Buffer(32, 0, 0, offset=16)]) == 64


@given(BUFFERS)
def test_between_what_lives_at_once_and_the_sum(buffers: list[Buffer]) -> None:
    def aligned(size: int) -> int:
        return (size + 15) // 16 * 16

    at_once = max(
        sum(aligned(b.size) for b in buffers if b.first <= time <= b.last) for time in range(13)
    )
    assert at_once <= plan(buffers) <= sum(aligned(b.size) for b in buffers)
