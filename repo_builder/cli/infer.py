"""`repo-builder infer`: one request to a served model, and its outputs with labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder import console
from repo_builder.errors import InferError, MissingExtra, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SHOWN_VALUES = 10


@click.command()
@click.argument("name")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="[NAME=]FILE",
    help="A .npy file, or an image where the model says how to read one; NAME may be left out "
    "where the model has one input.",
)
@click.option("--url", default="localhost:8001", show_default=True, help="Triton's gRPC endpoint.")
@click.option("--version", default="", help="Version of the model [default: Triton's choice].")
@click.option("--top", default=3, show_default=True, help="Labels to show for each row.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the outputs to this .npz file.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds to wait for the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the outputs, whole, as JSON.")
def command(
    *,
    name: str,
    inputs: tuple[str, ...],
    url: str,
    version: str,
    top: int,
    out: Path | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Send one request to the model NAME and print its outputs."""
    import numpy as np

    model = _Model(name, version, url, timeout)
    outputs = model.infer(model.tensors(inputs))
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
            }
        )
        return
    console.say(
        f"{name} {model.semantic_version} (version {model.answered_by}) at {url}".replace("  ", " ")
    )
    for output, array in outputs.items():
        _print_output(output, array, model.top(output, array, top))


class _Model:
    """A model on a server, with what its config says of its inputs and labels."""

    def __init__(self, name: str, version: str, url: str, timeout: float) -> None:
        from tritonclient.grpc import InferenceServerClient
        from tritonclient.utils import InferenceServerException

        self._refused = InferenceServerException
        self._name, self._version, self._url, self._timeout = name, version, url, timeout
        self._client = InferenceServerClient(url)
        self.answered_by = version
        try:
            self.inputs = {
                tensor.name: tensor
                for tensor in self._client.get_model_metadata(
                    name, version, client_timeout=timeout
                ).inputs
            }
            self._config = self._client.get_model_config(
                name, version, client_timeout=timeout
            ).config
        except InferenceServerException as error:
            raise self._explained(error) from None

    @property
    def semantic_version(self) -> str:
        """The spec's version, where repo-builder built the model."""
        return self._parameter("repo_builder.version")

    def _explained(self, error: Any) -> InferError:
        """A refusal of the server as one line that says what to do."""
        message = " ".join(str(error.message()).split())
        if error.status() == "StatusCode.UNAVAILABLE" and "unknown model" not in message:
            return InferError(f"no Triton answers at {self._url}; start one: repo-builder serve")
        if "unknown model" not in message:
            return InferError(f"{self._name} at {self._url}: {message}")
        served = self._client.get_model_repository_index(client_timeout=self._timeout).models
        known = {model.name for model in served}
        if self._name in known:
            versions = ", ".join(m.version for m in served if m.name == self._name and m.version)
            return InferError(
                f"{self._name} at {self._url}: "
                + (f"no version {self._version}; it has {versions}" if versions else "not loaded")
            )
        hint = did_you_mean(self._name, known)
        return InferError(f"no model '{self._name}' at {self._url}; {hint}")

    def _parameter(self, key: str) -> str:
        """A `repo_builder.*` parameter of the config; '' where the builder wrote none."""
        found = self._config.parameters
        return str(found[key].string_value) if key in found else ""

    def tensors(self, arguments: tuple[str, ...]) -> dict[str, Array]:
        """The arrays of the `[NAME=]FILE` arguments; raises InferError where they do not fit."""
        tensors: dict[str, Array] = {}
        for argument in arguments:
            name, named, file = argument.partition("=")
            if not named or Path(argument).exists():
                file = argument
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
            tensors[name] = self._fitted(name, self._read(name, Path(file)))
        optional = {tensor.name for tensor in self._config.input if tensor.optional}
        if missing := self.inputs.keys() - tensors.keys() - optional:
            raise InferError(f"{self._name} also needs --input for: {', '.join(sorted(missing))}")
        return tensors

    def _read(self, name: str, file: Path) -> Array:
        import numpy as np

        try:
            if file.suffix.lower() in _IMAGES:
                return self._image(name, file)
            array = np.load(file, allow_pickle=False)
        except OSError as error:
            raise InferError(f"{file}: {error.strerror or error}") from None
        except (ValueError, EOFError) as error:
            raise InferError(f"{file}: cannot be used: {error}") from None
        except ModuleNotFoundError:
            raise MissingExtra("build", "reading images") from None
        if not isinstance(array, np.ndarray):
            raise InferError(f"{file}: holds several arrays; give a .npy file")
        return array

    def _image(self, name: str, file: Path) -> Array:
        from tritonclient.utils import triton_to_np_dtype

        from repo_builder.client.preprocess import PARAMETER, Preprocess

        text = self._parameter(PARAMETER)
        if not text:
            raise ValueError("the model does not say how to read images; give a .npy file")
        recipe = Preprocess.from_json(text)
        if recipe.input != name:
            raise ValueError(f"the model reads images into '{recipe.input}', not into '{name}'")
        dtype = triton_to_np_dtype(self.inputs[name].datatype)
        return recipe.apply(file.read_bytes(), dtype)

    def _fitted(self, name: str, array: Array) -> Array:
        """`array` as the input `name` takes it; a missing batch dimension is added."""
        import numpy as np
        from tritonclient.utils import np_to_triton_dtype

        tensor = self.inputs[name]
        shape = list(tensor.shape)
        datatype = np_to_triton_dtype(array.dtype)
        if datatype != tensor.datatype:
            raise InferError(
                f"input '{name}' is {array.dtype} in the file and {tensor.datatype} in the model"
            )
        if array.ndim == len(shape) - 1 and shape[0] == -1:
            array = array[np.newaxis]
        fits = all(want in (-1, have) for want, have in zip(shape, array.shape, strict=False))
        if array.ndim != len(shape) or not fits:
            raise InferError(
                f"input '{name}' has the shape {list(array.shape)} in the file "
                f"and {shape} in the model (-1: any)"
            )
        return array

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name."""
        from tritonclient.grpc import InferInput

        inputs = []
        for name, array in tensors.items():
            inputs.append(InferInput(name, list(array.shape), self.inputs[name].datatype))
            inputs[-1].set_data_from_numpy(array)
        try:
            result = self._client.infer(
                self._name, inputs, self._version, client_timeout=self._timeout
            )
        except self._refused as error:
            raise self._explained(error) from None
        response = result.get_response()
        self.answered_by = response.model_version
        return {output.name: result.as_numpy(output.name) for output in response.outputs}

    def top(self, output: str, array: Array, count: int) -> list[list[list[Any]]]:
        """For each row the best `count` as [label, score]; [] where the output has no labels."""
        labels = json.loads(self._parameter("repo_builder.labels") or "{}").get(output, [])
        if not labels or array.ndim == 0 or array.shape[-1] != len(labels):
            return []
        rows = array.reshape(-1, len(labels))
        return [
            [[labels[i], float(row[i])] for i in (-row).argsort(kind="stable")[:count]]
            for row in rows
        ]


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
