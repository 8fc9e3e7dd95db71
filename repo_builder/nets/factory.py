"""Makes a net with the user's own function, on the CPU and ready to answer."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import MissingExtra, ModelError, did_you_mean
from repo_builder.nets import channels
from repo_builder.nets import weights as _weights
from repo_builder.nets._failures import failed
from repo_builder.nets.types import Net

if TYPE_CHECKING:
    from torch.nn import Module

_COUNT = itertools.count()


def make(folder: Path, net: Net, weights: Path | None, *, seed: int = 0) -> Module:
    """The net that `net.function` of the file in `folder` returns, in eval mode on the CPU.

    `weights` is a safetensors file that must name just the net's own state, that of a pruned net
    where `pruned.json` lies beside it (see `channels`); without it the net keeps what the function
    gave it, made with `seed`. Every module is put into eval mode, also one
    that the function left in train mode.

    ModelError, in one line: code that does not import, has no such function, is called wrongly,
    fails, wants a GPU or returns no module; weights that are cut or do not match (see
    `weights.load`). MissingExtra without torch.
    """
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", f"the net {net.factory}") from None

    with _importing(folder):
        _seed(seed)  # a file may draw numbers when it is imported
        function = _function(folder, net)
        _check_call(function, net)
        _seed(seed)
        try:
            made = function(**net.kwargs)
        except (Exception, SystemExit) as failure:
            raise failed(net.factory, "failed", failure, folder) from failure
    if not isinstance(made, torch.nn.Module):
        fix = "return the net itself, a torch.nn.Module"
        raise ModelError(f"{net.factory} returns a {type(made).__name__}, no module; {fix}")
    _check_devices(made, net, filled=weights is not None)
    made.to("cpu")
    if weights is not None:
        channels.apply(made, channels.read(weights.parent))
        _weights.load(made, weights, net)
    return frozen(made)


def _seed(seed: int) -> None:
    """Begin all sequences of random numbers that a net may be filled with."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def frozen(module: Module) -> Module:
    """The same net with every module in eval mode, whatever its own `train` does."""
    module.eval()
    for part in module.modules():
        part.training = False
    return module


def _function(folder: Path, net: Net) -> Callable[..., Any]:
    """The user's function, of its file imported under a name that nobody else has."""
    package = types.ModuleType(f"_net_{next(_COUNT)}")
    package.__path__ = [str(folder)]  # for relative imports
    sys.modules[package.__name__] = package
    try:
        module = importlib.import_module(f"{package.__name__}.{Path(net.file).stem}")
    except (Exception, SystemExit) as failure:
        fix = _way_out(failure)
        raise failed(net.file, "cannot be imported", failure, folder, fix) from failure
    found = getattr(module, net.function, None)
    if not callable(found):
        own = [name for name, value in vars(module).items() if _is_own(value, module.__name__)]
        raise ModelError(
            f"{net.file} has no function '{net.function}'; {did_you_mean(net.function, own)}"
        )
    function: Callable[..., Any] = found
    return function


def _way_out(failure: BaseException) -> str:
    if not isinstance(failure, ModuleNotFoundError):
        return ""
    return "what it imports must be installed, or lie beside it"


def _is_own(value: Any, module: str) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module


def _check_call(function: Callable[..., Any], net: Net) -> None:
    """ModelError where the function does not take the spec's kwargs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables tell nothing
        return
    try:
        signature.bind(**net.kwargs)
    except TypeError as failure:
        taken = ", ".join(signature.parameters) or "nothing"
        raise ModelError(
            f"{net.factory} does not take these `kwargs`: {failure}; it takes: {taken}"
        ) from None


def _check_devices(module: Module, net: Net, *, filled: bool) -> None:
    """ModelError where values are not on the CPU, unless the spec's weights replace them.

    A function may take a GPU where there is one: what it draws there are other numbers.
    """
    for name, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        if tensor.device.type == "meta" or (tensor.device.type != "cpu" and not filled):
            did = "gives no values" if tensor.device.type == "meta" else "wants a GPU"
            what = f"{net.factory} {did}: '{name}' is on {tensor.device}"
            raise ModelError(f"{what}; make the net on the CPU, where it is exported")


@contextlib.contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Let imports find files of `folder`, and nobody else ever see them."""
    names = {path.stem for path in folder.iterdir()} - sys.stdlib_module_names
    others = {name: m for name, m in sys.modules.items() if name.partition(".")[0] in names}
    for name in others:
        del sys.modules[name]
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.path_importer_cache.pop(str(folder), None)
        for name in set(sys.modules) - before:
            if _lies_in(sys.modules[name], folder):
                del sys.modules[name]
        sys.modules.update(others)


def _lies_in(module: types.ModuleType, folder: Path) -> bool:
    paths = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return any(path and Path(path).is_relative_to(folder) for path in paths)
