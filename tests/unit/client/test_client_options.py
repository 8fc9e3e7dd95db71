"""Options that contradict each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repo_builder.client.options import Fallback, Servers, Tls


def test_options_that_contradict_are_refused():
    with pytest.raises(ValueError, match="needs tls"):
        Servers(["cloud:8001"], token="secret")  # noqa: S106
    assert Servers(["localhost:8001"], token="secret")  # noqa: S106
    with pytest.raises(ValueError, match="belong together"):
        Tls(certificate=Path("x"))
    with pytest.raises(ValueError, match="threshold"):
        Fallback(score=lambda _: np.zeros(1))
    assert Servers.of("a:1, b:2").addresses == ("a:1", "b:2")
