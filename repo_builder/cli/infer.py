"""`repo-builder infer`: one request to a served model, and its outputs with labels."""

from __future__ import annotations

import contextlib
import dataclasses
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console
from repo_builder.base.errors import InferError, MissingExtra, did_you_mean
from repo_builder.cli import _complete, _options

if TYPE_CHECKING:
    import numpy.typing as npt

    from repo_builder.client import Result

    Array = npt.NDArray[Any]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SHOWN_VALUES = 10


@click.command()
@click.argument("name", shell_complete=_complete.served)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="[NAME=]FILE",
    help="A .npy file, a .npz file (its arrays are named like inputs, or NAME takes the only one), "
    "a .txt file for an input of strings (a row a line), or an image where the model says how to "
    "read one; NAME may be left out where the model has one input.",
)
@click.option("--url", default="localhost:8001", show_default=True, help="Triton's gRPC endpoint.")
@click.option("--cloud", metavar="URL", help="The Triton to ask where the model is not sure.")
@click.option("--version", default="", help="Version of the model [default: Triton's choice].")
@_options.number_option("--top", click.IntRange(1), 3, "Labels to show for each row.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the outputs to this .npz file.")
@_options.number_option("--timeout", _options.POSITIVE, 30.0, "Seconds to wait for the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the outputs, whole, as JSON.")
def command(
    *,
    name: str,
    inputs: tuple[str, ...],
    url: str,
    cloud: str | None,
    version: str,
    top: int,
    out: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Send one request to the model NAME and print its outputs."""
    import numpy as np

    with Model(name, version, url, cloud, timeout) as model:
        result = model.infer(model.tensors(inputs))
    outputs = result.outputs
    if out:
        with out.open("wb") as file:
            np.savez(file, allow_pickle=False, **outputs)
    if as_json:
        console.out_json(
            {
                "model": name,
                "version": model.answered_by,
                "outputs": {
                    output: {
                        "shape": list(array.shape),
                        "data": _plain(array).tolist(),
                        **({"labels": found} if (found := model.top(output, array, top)) else {}),
                    }
                    for output, array in outputs.items()
                },
                "sources": list(result.sources),
                **({} if result.confidence is None else {"confidence": _scores(result).tolist()}),
            }
        )
        return
    console.say(f"{name}, version {model.answered_by}, at {url}")
    for output, array in outputs.items():
        _print_output(output, array, model.top(output, array, top))
    _print_confidence(result)


class Model:
    """A model on a server, asked through the client SDK."""

    def __init__(
        self, name: str, version: str, url: str, cloud: str | None, timeout: float
    ) -> None:
        from repo_builder.client import EdgeClient, Retry

        self._name, self._version, self._url, self._timeout = name, version, url, timeout
        # Somebody waits at the terminal: a server that is not there is not waited for.
        self._client = EdgeClient(url, cloud, retry=Retry(patient=False))
        self.answered_by = version
        try:
            with self._wrap_call_errors():
                self._model = self._client.describe(name, timeout=timeout, version=version)
        except InferError:
            self._client.close()
            raise
        self.inputs = {tensor.name: tensor for tensor in self._model.inputs}

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @contextlib.contextmanager
    def _wrap_call_errors(self) -> Iterator[None]:
        """The client's errors as one line that says what to do."""
        from repo_builder.client import ClientError, Unavailable

        try:
            yield
        except Unavailable as error:
            if "failed to connect" not in str(error):
                raise InferError(str(error)) from None
            raise InferError(
                f"no Triton answers at {self._url}; start one: repo-builder serve"
            ) from None
        except ClientError as error:
            raise InferError(str(error)) from None

    def tensors(self, arguments: tuple[str, ...]) -> dict[str, Array]:
        """The arrays of the `[NAME=]FILE` arguments; raises InferError where they do not fit."""
        tensors: dict[str, Array] = {}
        for argument in arguments:
            name, named, file = argument.partition("=")
            if not named or Path(argument).exists():
                file = argument
                if Path(file).suffix.lower() == ".npz":
                    tensors |= self._archive(Path(file))
                    continue
                if len(self.inputs) > 1:
                    raise InferError(
                        f"{self._name} has several inputs; "
                        f"write --input NAME={file} with one of: {', '.join(self.inputs)}"
                    )
                name = next(iter(self.inputs))
            if name not in self.inputs:
                raise InferError(
                    f"{self._name} has no input '{name}'; {did_you_mean(name, self.inputs)}"
                )
            tensors[name] = self._read(name, Path(file))
        optional = {tensor.name for tensor in self._model.inputs if tensor.optional}
        if missing := self.inputs.keys() - tensors.keys() - optional:
            raise InferError(f"{self._name} also needs --input for: {', '.join(sorted(missing))}")
        return tensors

    def made_up(self) -> dict[str, Array]:
        """One row of random values; UsageError where the inputs cannot be made up."""
        from repo_builder.cli.bench import made_inputs

        return made_inputs(self._model, 1, None)[0]

    def _archive(self, file: Path) -> dict[str, Array]:
        """The arrays of a .npz file that are named like inputs; else its only one, for the only."""
        with _reading(file):
            arrays = _arrays(file)
        found = {name: array for name, array in arrays.items() if name in self.inputs}
        if not found and len(arrays) == len(self.inputs) == 1:
            return dict(zip(self.inputs, arrays.values(), strict=True))
        if not found:
            raise InferError(
                f"{file}: has {', '.join(arrays) or 'no array'}; "
                f"{self._name} takes {', '.join(self.inputs)}"
            )
        return found

    def _read(self, name: str, file: Path) -> Array:
        import numpy as np

        with _reading(file):
            if file.suffix.lower() in _IMAGES:
                return self._image(name, file)
            if file.suffix.lower() == ".txt":
                return self._text(name, file)
            if file.suffix.lower() == ".npz":
                arrays = _arrays(file)
                if name not in arrays and len(arrays) != 1:
                    raise ValueError(f"has no array '{name}'; {did_you_mean(name, arrays)}")
                return arrays.get(name, next(iter(arrays.values())))
            array: Array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise InferError(f"{file}: holds several arrays; call it .npz")
        return array

    def _text(self, name: str, file: Path) -> Array:
        """The lines of a file, one for each row of an input of strings."""
        import numpy as np

        tensor = self.inputs[name]
        if tensor.dtype.kind != "O":
            raise ValueError(f"'{name}' takes {tensor.dtype}, no text; give a .npy file")
        lines = file.read_text(encoding="utf-8").splitlines()
        content = np.empty(len(lines), object)
        content[:] = [line.encode() for line in lines]
        # A row of one string has shape [1], as Triton's configs write it.
        ones = tensor.dims if self._model.max_rows else tensor.dims[1:]
        return content.reshape(-1, *(1 for _ in ones))

    def _image(self, name: str, file: Path) -> Array:
        """An image as the model takes it: the file itself, or what its preprocessing makes."""
        import numpy as np

        from repo_builder.client.models.preprocess import Preprocess

        if self.inputs[name].dtype.kind == "O":  # a pipeline that decodes images
            content = np.empty([max(size, 1) for size in self.inputs[name].dims], object)
            content.fill(file.read_bytes())
            return content
        if not self._model.preprocess:
            raise ValueError("the model does not say how to read images; give a .npy file")
        recipe = Preprocess.from_json(self._model.preprocess)
        if recipe.input != name:
            raise ValueError(f"the model reads images into '{recipe.input}', not into '{name}'")
        return recipe.sent(file.read_bytes(), self.inputs[name].dtype)[0]

    def infer(self, tensors: Mapping[str, Array]) -> Result:
        """The answer; its outputs have a batch axis where the model has one."""
        with self._wrap_call_errors():
            result = self._client.infer(
                self._name, tensors, timeout=self._timeout, version=self._version
            )
        self.answered_by = result.version or result.cloud_version
        if result.batch is None and self._model.max_rows:
            outputs = {name: array[None] for name, array in result.outputs.items()}
            return dataclasses.replace(result, outputs=outputs, batch=1)
        return result

    def top(self, output: str, array: Array, count: int) -> list[list[list[Any]]]:
        """For each row the best `count` as [label, score]; [] where the output has no labels."""
        labels = self._model.labels.get(output, [])
        if not labels or array.ndim == 0 or array.shape[-1] != len(labels):
            return []
        rows = array.reshape(-1, len(labels))
        return [
            [[labels[i], float(row[i])] for i in (-row).argsort(kind="stable")[:count]]
            for row in rows
        ]


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """What goes wrong with a file of the user, as one line."""
    try:
        yield
    except OSError as error:
        raise InferError(f"{file}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InferError(f"{file}: cannot be used: {error}") from None
    except ModuleNotFoundError:
        raise MissingExtra("build", "reading images") from None


def _arrays(file: Path) -> dict[str, Array]:
    """The arrays of a .npz file."""
    import numpy as np

    with np.load(file, allow_pickle=False) as archive:
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("is no .npz file")
        return dict(archive)


def _plain(array: Array) -> Array:
    """Strings as str instead of bytes, for printing."""
    import numpy as np

    if array.dtype != np.object_:
        return array
    return np.array([item.decode(errors="replace") for item in array.flat]).reshape(array.shape)


def _print_output(name: str, array: Array, labels: list[list[list[Any]]]) -> None:
    import numpy as np

    console.out(
        f"{name} {array.dtype if array.dtype != np.object_ else 'string'}{list(array.shape)}"
    )
    if labels:
        for number, row in enumerate(labels):
            found = ", ".join(f"{label} {score:.4g}" for label, score in row)
            console.out(f"  {number}: {found}")
        return
    flat = _plain(array).ravel()
    shown = " ".join(
        f"{value:.6g}" if array.dtype.kind == "f" else str(value) for value in flat[:_SHOWN_VALUES]
    )
    rest = f" ... ({flat.size - _SHOWN_VALUES} more; --json or --out has all)"
    console.out(f"  {shown}{rest if flat.size > _SHOWN_VALUES else ''}")


def _scores(result: Result) -> Array:
    """How sure the edge was: one figure per row."""
    import numpy as np

    scores: Array = np.atleast_1d(result.confidence)
    return scores


def _print_confidence(result: Result) -> None:
    """How sure the edge was of each row, and who answered; nothing where it has no policy."""
    if result.policy is None or result.confidence is None:
        return
    console.out(f"confidence ({result.policy.policy})")
    scores = _scores(result)
    sure = result.policy.sure(scores)
    for number, (score, source) in enumerate(zip(scores, result.sources, strict=True)):
        unsure = "" if sure[number] or source == "cloud" else ", not sure"
        console.out(f"  {number}: {score:.4g} {source}{unsure}")
    if result.why_unverified:
        console.warn(f"the cloud did not answer: {result.why_unverified}")
