"""Families of nets: growth, what a spec may say, members as specs, and what a device affords."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from repo_builder import targets
from repo_builder.base.errors import SpecError, UsageError
from repo_builder.targets.advise import Machine, Workload
from repo_builder.targets.advise.workload import Layer
from repo_builder.tune import family as families
from repo_builder.tune.family.scaling import growths, scaled

CATALOG = targets.load()
EXAMPLES = Path(__file__).parents[3] / "model_specs" / "families"
MACHINE = Machine(cores=2, memory_mb=8000)


@given(
    base=st.integers(1, 500),
    growth=st.floats(1, 2),
    phi=st.floats(0, 4),
    block=st.sampled_from([1, 4, 8, 16]),
)
def test_sizes_are_multiples_and_grow(base: int, growth: float, phi: float, block: int) -> None:
    size = scaled(base, growth, phi, block)
    assert size == base if phi == 0 else size % block == 0 and size >= block
    exact = base * growth**phi
    assert phi == 0 or abs(size - exact) <= block / 2 + 1e-6 or size == block
    assert scaled(base, growth, phi, block, up=True) >= exact - 1e-6 or phi == 0


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_growths_double_the_work(dimensions: int) -> None:
    found = growths(dimensions)
    assert len(found) == 15
    for alpha, beta, gamma in found:
        assert alpha * beta**2 * gamma**dimensions == pytest.approx(2, rel=0.01)


def test_what_does_not_grow_keeps_its_size() -> None:
    assert growths(2, depth=False, resolution=False) == [(1.0, 1.414, 1.0)]
    assert growths(2, depth=False, width=False, resolution=False) == []


def test_efficientnet_b1_is_b0_grown() -> None:
    """B0 to B1: 224 pixels to 240 with phi 0.5, as the authors publish (gamma 1.15)."""
    assert scaled(224, 1.15, 0.5, 8) == 240


def examples(folder: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES, folder / "families"))


def changed(folder: Path, old: str, new: str) -> Path:
    file = examples(folder) / "image" / "mixture-image.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def test_members_of_a_scaling_start_with_the_spec_itself(tmp_path: Path) -> None:
    file = changed(
        tmp_path,
        "members: [{active: 1}, {active: 2}, {active: 3}, {active: 4}]",
        "scale: {depth: {argument: experts}, phi: [0, 0.1, 1, 2], alpha: 1.5}",
    )
    found = families.read(file, CATALOG)
    assert [member.kwargs["experts"] for member in found.members] == [4, 5, 6, 9]
    assert found.members[0].name == "mixture-image-experts4"
    assert [member.phi for member in found.members] == [0, 0.1, 1, 2]
    assert found.dimensions == 2


def test_members_that_come_out_alike_are_one(tmp_path: Path) -> None:
    file = changed(
        tmp_path,
        "members: [{active: 1}, {active: 2}, {active: 3}, {active: 4}]",
        "scale: {width: {argument: experts, round_to: 4}, phi: [0, 0.1, 0.2, 8]}",
    )
    found = families.read(file, CATALOG)
    assert [member.kwargs["experts"] for member in found.members] == [4, 8]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "{active: 3}",
            "{activ: 3}",
            "'activ' is none of the source's kwargs; did you mean 'active'",
        ),
        ("{active: 3}", "3", "must be a mapping of keys to values, not 3"),
        ("members: [{active: 1}", "scale: {phi: []}\n  members: [{active: 1}", "at least 1 items"),
        ("members: [", "member: [", "did you mean 'members'"),
        ("batch: false", "batch: false\n    weights: nets.safetensors", "fit one size of the net"),
    ],
)
def test_what_a_family_may_not_say(tmp_path: Path, old: str, new: str, line: str) -> None:
    file = changed(tmp_path, old, new)
    (file.parent / "nets.safetensors").touch()
    with pytest.raises(SpecError) as failure:
        families.read(file, CATALOG)
    said = "\n".join(str(problem) for problem in failure.value.problems)
    assert line in said
    assert "mixture-image.yaml:" in said


def test_a_spec_without_a_family_is_told_so() -> None:
    with pytest.raises(UsageError, match="digits.yaml has no family; write `family:"):
        families.read(EXAMPLES.parent / "digits.yaml", CATALOG)


def test_members_become_specs_that_load(tmp_path: Path) -> None:
    from repo_builder.spec.load import load

    file = examples(tmp_path) / "image" / "mixture-image.yaml"
    found = families.read(file, CATALOG)
    written = families.write(found, found.members)
    assert [path.name for path in written] == [f"mixture-image-active{n}.yaml" for n in range(1, 5)]
    assert [spec.name for spec in load(written, CATALOG)] == [path.stem for path in written]
    families.write(found, found.members)  # its own files are written again
    assert not list(file.parent.glob(".*"))


def test_a_file_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    file = examples(tmp_path) / "image" / "mixture-image.yaml"
    found = families.read(file, CATALOG)
    mine = file.with_name("mixture-image-active2.yaml")
    mine.write_text("name: mine\n")
    with pytest.raises(UsageError, match=r"active2\.yaml is a file of yours and not replaced"):
        families.write(found, found.members)
    assert mine.read_text() == "name: mine\n"
    assert not file.with_name("mixture-image-active1.yaml").exists()


def weighed(name: str, macs: int) -> families.Weighed:
    layer = Layer("Conv", macs=macs, weights=10, reads=10, writes=10)
    work = Workload(name, 1, (layer,), live=20)
    return families.Weighed(families.Member(name, {}, {}), work, None)


def test_the_largest_that_fits_in_each_mode() -> None:
    target = CATALOG["jetson-orin-nx"]
    family = [weighed("small", 10**6), weighed("middle", 10**9), weighed("large", 10**11)]
    found = families.afford(family, target, families.Budget(latency_ms=5), MACHINE)
    assert len(found) == 3 * len(target.power_modes)
    best = families.largest(found)
    names = {mode: one and one.weighed.member.name for mode, one in best.items()}
    assert set(names.values()) == {"middle"}
    none = families.afford(family, target, families.Budget(memory_mb=1), MACHINE)
    assert set(families.largest(none).values()) == {None}
    assert all("MB of memory" in one.why for one in none)


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Workload, Path]]:
    """The 1-D mixture with 1 and 3 of 4 experts, exported."""
    from repo_builder.nets import factory
    from repo_builder.nets.types import Net
    from repo_builder.steps import export_torch

    folder = tmp_path_factory.mktemp("mixture")
    (folder / "digits-1d").mkdir()
    for name in ("train", "validation", "evaluation"):  # which data.py writes; they are not read
        (folder / "digits-1d" / f"{name}.npz").touch()
    found = families.read(examples(folder) / "mixture-1d.yaml", CATALOG)
    exported = {}
    for active in (1, 3):
        kwargs = {"experts": 4, "active": active}
        net = Net("nets.py", "mixture", kwargs, found.source.inputs, found.source.outputs, True)
        out = folder / str(active)
        out.mkdir()
        export_torch.write(factory.make(EXAMPLES, net, None), net, EXAMPLES, out)
        from repo_builder.targets.advise import read

        exported[active] = read(out / "model.onnx"), out / "model.onnx"
    return exported


def test_work_grows_with_the_experts_that_answer(
    mixture: dict[int, tuple[Workload, Path]],
) -> None:
    one, three = mixture[1][0], mixture[3][0]
    expert = 2 * 24 * 96 * 10
    assert three.macs - one.macs == pytest.approx(2 * expert, abs=200)
    assert one.weights == pytest.approx(three.weights, abs=10)
    assert sum(layer.weights for layer in one.layers) < one.weights - 4 * 2 * 24 * 96 + 1


def test_experts_that_are_not_chosen_are_never_read(
    mixture: dict[int, tuple[Workload, Path]],
) -> None:
    """Their weights as NaN change no answer: a product with zero would give NaN."""
    import onnxruntime

    file = mixture[1][1]
    rows = np.random.default_rng(0).normal(size=(20, 1, 40)).astype(np.float32)
    model = onnx.load(file)

    def answers(poisoned: int | None) -> Any:
        for tensor in model.graph.initializer:
            array = numpy_helper.to_array(clean[tensor.name]).copy()
            if poisoned is not None and array.shape[:1] == (4,) and array.ndim == 3:
                array[poisoned] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        session = onnxruntime.InferenceSession(model.SerializeToString())
        return session.run(None, {session.get_inputs()[0].name: rows})[0]

    clean = {
        t.name: onnx.TensorProto.FromString(t.SerializeToString()) for t in model.graph.initializer
    }
    whole = answers(None)
    lost = Counter[int]()
    for expert in range(4):
        without = answers(expert)
        bad = np.isnan(without).any(axis=1)
        np.testing.assert_array_equal(without[~bad], whole[~bad])
        lost[expert] = int(bad.sum())
    assert sum(lost.values()) == len(rows)  # each row is answered by just one
