"""`repo-builder infer` against a served model: labels, images, and mistakes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import triton_models as models
from click.testing import CliRunner, Result
from PIL import Image
from triton_models import StartTriton

from repo_builder.base.errors import InferError
from repo_builder.cli import cli
from repo_builder.client.models.preprocess import Preprocess

RECIPE = Preprocess("image", (4, 4), color="gray")
LABELS = {"scores": ["mean", "corner", "half"]}


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(value)} }} }}'


@pytest.fixture(scope="module")
def url(module_triton: StartTriton, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    more = parameter("repo_builder.labels", json.dumps(LABELS)) + parameter(
        "repo_builder.preprocess", RECIPE.to_json()
    )
    models.add(folder, "classifier", models.classifier(), max_batch_size=4, more=more)
    models.add(folder, "greeting", models.greeting(), max_batch_size=4)
    models.add(
        folder, "optional", models.optional(), replace=("dims: [1] }", "dims: [1] optional: true }")
    )
    return module_triton(folder).grpc_url


def run(url: str, *words: object) -> Result:
    return CliRunner().invoke(cli, ["infer", *map(str, words), "--url", url])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.zeros((4, 4), np.uint8)
    pixels[0, 0] = 204
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_an_image_goes_through_the_models_own_preprocessing(url: str, picture: Path) -> None:
    result = run(url, "classifier", "--input", picture)
    assert result.stdout.splitlines() == [
        "scores float32[1, 3]",
        "  0: corner 0.8, half 0.5, mean 0.05",
    ]


def test_json_has_everything(url: str, picture: Path) -> None:
    result = run(url, "classifier", "--input", f"image={picture}", "--json", "--top", 1)
    answer = json.loads(result.stdout)
    assert answer["model"] == "classifier"
    assert answer["version"] == "1"
    scores = answer["outputs"]["scores"]
    assert scores["shape"] == [1, 3]
    assert scores["data"][0] == pytest.approx([0.05, 0.8, 0.5])
    assert scores["labels"][0][0] == ["corner", pytest.approx(0.8)]


def test_arrays_and_an_npz_of_the_outputs(url: str, tmp_path: Path) -> None:
    images = np.linspace(0, 1, 48, dtype=np.float32).reshape(3, 1, 4, 4)
    np.save(tmp_path / "images.npy", images)
    out = tmp_path / "outputs.npz"
    result = run(url, "classifier", "--input", tmp_path / "images.npy", "--out", out)
    assert result.exit_code == 0
    scores = np.load(out, allow_pickle=False)["scores"]
    np.testing.assert_allclose(scores[:, 0], images.mean((1, 2, 3)), rtol=1e-5)


def test_a_missing_batch_dimension_is_added(url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, 4, 4), np.float32))
    result = run(url, "classifier", "--input", tmp_path / "one.npy", "--top", 1)
    assert result.stdout.splitlines()[1] == "  0: mean 1"


def test_optional_inputs_may_be_left_out(url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32([1, 2]))
    result = run(url, "optional", "--input", f"x={tmp_path / 'x.npy'}")
    assert result.stdout.splitlines() == ["y float32[2]", "  101 102"]


def mistake(result: Result) -> str:
    assert isinstance(result.exception, InferError), result
    return str(result.exception)


def test_mistakes_are_one_line_that_says_what_to_do(
    url: str, picture: Path, tmp_path: Path
) -> None:
    def saved(name: str, array: Any) -> Path:
        np.save(tmp_path / name, array)
        return tmp_path / name

    text = tmp_path / "text.npy"
    text.write_text("no array")
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:40])
    good = saved("good.npy", np.zeros((1, 1, 4, 4), np.float32))
    wrong = {
        ("clasifier", good): "unknown model: 'clasifier' is not found; it has 'classifier'",
        ("classifier", f"imag={good}"): "no input 'imag'; did you mean 'image'?",
        ("classifier", tmp_path / "away.npy"): "away.npy: No such file or directory",
        ("classifier", text): "text.npy: cannot be used: ",
        ("classifier", broken): "broken.png: cannot be used: not an image that can be read",
        ("optional", good): "optional has several inputs; write --input NAME=",
        ("optional", f"bias={saved('b.npy', np.float32([1]))}"): "also needs --input for: x",
        ("greeting", picture): "input 'name' holds bytes that are not UTF-8",
        ("classifier", saved("double.npy", np.zeros((1, 1, 4, 4)))): (
            "input 'image' is FP32 (float32), an array of float64 was given"
        ),
        ("classifier", saved("shape.npy", np.zeros((1, 1, 5, 4), np.float32))): (
            "input 'image' has shape [rows, 1, 4, 4], [1, 1, 5, 4] was given"
        ),
        ("classifier", saved("none.npy", np.zeros((0, 1, 4, 4), np.float32))): (
            "0 rows given, it takes 1 or more"
        ),
    }
    for (model, given), message in wrong.items():
        found = mistake(run(url, model, "--input", given))
        assert message in found
        assert "\n" not in found
    assert "it has version 1 of 'classifier'" in mistake(
        run(url, "classifier", "--input", good, "--version", 7)
    )


def test_more_rows_than_the_model_takes_at_once(url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "many.npy", np.zeros((9, 1, 4, 4), np.float32))
    printed = run(url, "classifier", "--input", tmp_path / "many.npy").stdout
    assert printed.startswith("scores float32[9, 3]")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.float32([1]))
    found = mistake(run("127.0.0.1:1", "digits", "--input", tmp_path / "x.npy"))
    assert found == "no Triton answers at 127.0.0.1:1; start one: repo-builder serve"


def test_strings_are_printed_as_text(url: str, tmp_path: Path) -> None:
    np.save(tmp_path / "names.npy", np.array([[b"you"]]))
    result = run(url, "greeting", "--input", tmp_path / "names.npy")
    assert result.stdout.splitlines() == ["greeting string[1, 1]", "  hello you"]


def test_text_is_a_row_a_line(url: str, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("you\nworld \u00e9\n", encoding="utf-8")
    result = run(url, "greeting", "--input", names, "--json")
    assert json.loads(result.stdout)["outputs"]["greeting"]["data"] == [
        ["hello you"],
        ["hello world \u00e9"],
    ]
    assert "takes float32, no text" in mistake(run(url, "classifier", "--input", names))


def test_the_arrays_of_an_npz_file(url: str, tmp_path: Path) -> None:
    image = np.ones((2, 1, 4, 4), np.float32)
    named, other, more = (tmp_path / f"{name}.npz" for name in ("named", "other", "more"))
    np.savez(named, image=image, labels=np.int64([1, 2]))
    np.savez(other, x=image)
    np.savez(more, x=image, y=image)
    for given in (named, other, f"image={named}", f"image={other}"):
        assert run(url, "classifier", "--input", given).stdout.startswith("scores float32[2, 3]")
    np.savez(tmp_path / "two.npz", x=np.float32([1, 2]), bias=np.float32([1]))
    assert run(url, "optional", "--input", tmp_path / "two.npz").exit_code == 0
    assert "more.npz: has x, y; classifier takes image" in mistake(
        run(url, "classifier", "--input", more)
    )
    assert "has no array 'image'" in mistake(run(url, "classifier", "--input", f"image={more}"))
    (tmp_path / "text.npz").write_text("no archive")
    assert "text.npz: cannot be used: " in mistake(
        run(url, "classifier", "--input", tmp_path / "text.npz")
    )


def test_the_recipe_reads_what_the_builder_writes() -> None:
    stream = io.BytesIO()
    Image.new("L", (4, 4), 51).save(stream, "PNG")
    tensor = Preprocess.from_json(RECIPE.to_json()).apply(stream.getvalue())
    np.testing.assert_allclose(tensor, np.full((1, 1, 4, 4), 0.2), rtol=1e-6)
