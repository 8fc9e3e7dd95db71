from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True, scope="session")
def torch_on_one_thread(unavailable: Callable[[str], NoReturn]) -> None:
    if importlib.util.find_spec("torch") is None:
        unavailable("no torch; pip install 'repo-builder[torch]'")
    import torch

    torch.set_num_threads(1)
