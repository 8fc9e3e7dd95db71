"""Nets from the user's function: code, weights, and what is said where they do not fit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from net_kit import LINEAR, code, net

from repo_builder.base.errors import MissingExtra, ModelError
from repo_builder.nets import factory
from repo_builder.nets.imports import beside, imports_of


def refused(folder: Path, weights: Path | None = None, **given: object) -> str:
    with pytest.raises(ModelError) as caught:
        factory.make(folder, net(**given), weights)
    message = str(caught.value)
    assert "\n" not in message
    return message


def saved(path: Path, **tensors: object) -> Path:
    from safetensors.torch import save_file

    save_file(tensors, path)
    return path


def test_two_nets_have_files_of_the_same_name_and_none_is_left_behind(tmp_path: Path) -> None:
    text = "import blocks\nfrom .more import two\ndef make(): return blocks.Net(two())\n"
    block = """
        import torch
        class Net(torch.nn.Linear):
            def __init__(self, n):
                super().__init__({}, n)
    """
    before, path = set(sys.modules), list(sys.path)
    made = [
        factory.make(
            code(
                tmp_path / str(size),
                text,
                blocks=block.format(size),
                more__in____init__="from .of import two",
                more__in__of="def two(): return 2",
            ),
            net(),
            None,
        )
        for size in (4, 7)
    ]
    assert [tuple(one.weight.shape) for one in made] == [(2, 4), (2, 7)]
    assert sys.path == path
    left = set(sys.modules) - before
    assert not left & {"blocks", "more", "nets"}
    assert not [
        name for name in left if str(tmp_path) in str(getattr(sys.modules[name], "__file__", ""))
    ]


def test_every_module_is_in_eval_mode_whatever_its_train_does(tmp_path: Path) -> None:
    text = """
        import torch
        class Stubborn(torch.nn.Dropout):
            def train(self, mode=True):
                self.training = True
                return self
        def make():
            return torch.nn.Sequential(torch.nn.Linear(4, 4), Stubborn()).train()
    """
    made = factory.make(code(tmp_path, text), net(), None)
    assert not [part for part in made.modules() if part.training]


def test_a_net_inside_a_package_is_named_by_a_file_beside_it(tmp_path: Path) -> None:
    code(
        tmp_path,
        "from package.nets import make\n",
        package__in____init__="",
        package__in__nets="from .parts import Net\nfrom package import parts\nmake = parts.Net\n",
        package__in__parts="import torch\nclass Net(torch.nn.Flatten): pass\n",
    )
    assert {str(name) for name in beside(tmp_path / "nets.py", imports_of)} == {
        "nets.py",
        "package/__init__.py",
        "package/nets.py",
        "package/parts.py",
    }
    assert type(factory.make(tmp_path, net(), None)).__name__ == "Net"


def test_without_weights_equal_seeds_give_equal_nets(tmp_path: Path) -> None:
    import torch

    code(tmp_path)
    one, same, other = (factory.make(tmp_path, net(), None, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)


def test_weights_are_loaded_and_shared_ones_may_be_stored_once(tmp_path: Path) -> None:
    import torch

    text = """
        import torch
        def make():
            parts = [torch.nn.Linear(4, 4, bias=False) for _ in range(2)]
            net = torch.nn.Sequential(*parts)
            net[1].weight = net[0].weight
            return net
    """
    weights = saved(tmp_path / "w.safetensors", **{"0.weight": torch.full((4, 4), 2.0)})
    made = factory.make(code(tmp_path / "code", text), net(), weights)
    assert made[1].weight.eq(2).all()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weight": (3, 4)}, "the file lacks bias of the net; give other `kwargs`"),
        (
            {"weight": (3, 4), "bias": (3,), "head": (2,), "a": (1,), "b": (1,), "c": (1,)},
            "the net has no a, b, c and 1 more of the file",
        ),
        (
            {"weight": (5, 4), "bias": (5,)},
            "shapes differ: bias (net [3], file [5]), weight (net [3, 4], file [5, 4])",
        ),
        ({"net.weight": (3, 4), "net.bias": (3,)}, "; take 'net.' off its names"),
    ],
)
def test_weights_that_do_not_match_are_told_with_both_sides(
    tmp_path: Path, given: dict[str, tuple[int, ...]], said: str
) -> None:
    import torch

    file = saved(tmp_path / "w.safetensors", **{n: torch.zeros(s) for n, s in given.items()})
    message = refused(code(tmp_path / "code"), file)
    assert message.startswith("w.safetensors does not fit nets.py:make: ")
    assert said in message


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_cut_weights_are_told(tmp_path: Path, kept: int) -> None:
    import torch

    file = saved(tmp_path / "w.safetensors", weight=torch.zeros(3, 4), bias=torch.zeros(3))
    file.write_bytes(file.read_bytes()[:kept])
    message = refused(code(tmp_path / "code"), file)
    assert message.startswith("w.safetensors is cut short, or no safetensors file")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def make(:", "nets.py cannot be imported: SyntaxError: invalid syntax (nets.py, line 1)"),
        (
            "import no_such_package",
            "nets.py cannot be imported: ModuleNotFoundError: No module named 'no_such_package' "
            "(nets.py, line 1); what it imports must be installed, or lie beside it",
        ),
        ("import sys\nsys.exit(3)", "nets.py cannot be imported: SystemExit: 3 (nets.py, line 2)"),
        ("def mak(): ...", "nets.py has no function 'make'; did you mean 'mak'?"),
        (
            "def make(width, depth=2): ...",
            "nets.py:make does not take these `kwargs`: missing a required argument: 'width'; it "
            "takes: width, depth",
        ),
        (
            "def make():\n    x = 0\n    return 1 / x",
            "nets.py:make failed: ZeroDivisionError: division by zero (nets.py, line 3)",
        ),
        ("def make(): return {'a': 1}", "nets.py:make returns a dict, no module; return the net"),
        (
            "import torch\ndef make(): return torch.nn.Linear(4, 3, device='meta')",
            "nets.py:make gives no values: 'weight' is on meta; make the net on the CPU",
        ),
        (
            "def make(): raise RuntimeError('Found no NVIDIA driver on your system.\\nSee')",
            "nets.py:make wants a GPU: RuntimeError: Found no NVIDIA driver",
        ),
    ],
)
def test_code_that_makes_no_net_is_told(tmp_path: Path, text: str, said: str) -> None:
    assert refused(code(tmp_path, text)).startswith(said)


def test_without_torch_the_extra_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"^the net nets.py:make needs an extra: pip install "):
        factory.make(code(tmp_path), net(), None)


def test_kwargs_that_the_function_does_not_take_are_told(tmp_path: Path) -> None:
    message = refused(code(tmp_path, LINEAR), kwargs={"clases": 3})
    assert "got an unexpected keyword argument 'clases'; it takes: classes" in message
