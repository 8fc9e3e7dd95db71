"""A batch of more rows than a model takes at once: cut into parts, and their answers joined.

No I/O: yields effects (see rules/effects.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.errors import ServerFailed
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Batch
from repo_builder.client.rules.effects import Effects
from repo_builder.client.rules.failure import Failure

Array = npt.NDArray[Any]
Answer = tuple[dict[str, Array], str]
"""Outputs by name, and the number of the version that made them."""


def in_parts(
    model: Model,
    batch: Batch,
    version: str,
    ask: Callable[[Batch, str], Effects[Answer | Failure]],
) -> Effects[Answer | Failure]:
    """The answer to `batch`, rows in its order, by one version; the first Failure of a part.

    `ask` has one part answered by a version ("": whichever is served). Parts that were answered
    before the model was replaced are asked again of the version that answered the last.
    ServerFailed where the parts' outputs do not fit each other.
    """
    parts = model.parts(batch)
    answers: list[Answer] = []
    for part in parts:
        got = yield from ask(part, version)
        if isinstance(got, Failure):
            return got
        answers.append(got)
    served = answers[-1][1]
    for number, (part, (_, by)) in enumerate(zip(parts, answers, strict=True)):
        if by != served:
            got = yield from ask(part, served)
            if isinstance(got, Failure):
                return got
            answers[number] = got
    return _joined(model, [outputs for outputs, _ in answers]), served


def _joined(model: Model, answers: Sequence[dict[str, Array]]) -> dict[str, Array]:
    outputs = {}
    for name, first in answers[0].items():
        arrays = [answer[name] for answer in answers if name in answer]
        shapes = {array.shape[1:] for array in arrays}
        if len(arrays) < len(answers) or len(shapes) > 1:
            raise ServerFailed(
                f"model '{model.name}': the answers to parts of {model.max_rows} rows do not fit "
                f"each other ('{name}' is {list(first.shape[1:])} a row in the first); "
                f"give at most {model.max_rows} rows a call"
            )
        outputs[name] = np.concatenate(arrays)
    return outputs
