"""Whatever a target file holds, it is a target or a list of problems, never a crash."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder import targets
from repo_builder.base.errors import Problem, SpecError

KEYS = [*sorted(targets.Target.model_fields), "extends", "nonsense", "guide", "note", "cores"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-10, 10**12)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["cpu", "int8", "tensorrt", "arm64", "8.7"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), values), st.booleans())
def test_any_file_loads_or_is_refused_with_its_name(data: dict[str, Any], refines: bool) -> None:
    if refines:
        data["extends"] = "jetson-orin-nx"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
        found = load(Path(folder))
    assert isinstance(found, targets.Target) or (found and all(p.file for p in found))


def load(folder: Path) -> targets.Target | tuple[Problem, ...]:
    try:
        return targets.load(folder)["mine"]
    except SpecError as error:
        return error.problems
