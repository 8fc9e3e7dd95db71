"""Models of other frameworks: told from ONNX without loading them, with lines that are code."""

from __future__ import annotations

import ast
import zipfile
from pathlib import Path

import onnx
import onnx.parser
import pytest

from repo_builder.base.errors import ModelError
from repo_builder.propose import foreign

IN_PYTHON = {
    "net.pth": ("a PyTorch file", 'torch.onnx.export(model.eval(), (example,), "net.onnx"'),
    "it's.ckpt": ("a PyTorch file", 'torch.load("it\'s.ckpt"'),
    "net.keras": ("a Keras model", '(example,), "net.onnx", dynamo=True'),
    "net.h5": ("a Keras model", 'load_model("net.h5", compile=False)'),
    "net.pkl": ("a Python pickle", 'joblib.load("net.pkl")'),
    "net.JOBLIB": ("a Python pickle", "to_onnx(model, initial_types=x"),
    "net.safetensors": ("a file of weights", 'load_file("net.safetensors")'),
    "net.pt2": ("an exported program", 'torch.export.load("net.pt2")'),
}
COMMANDS = {
    "my net.tflite": "python -m tf2onnx.convert --tflite 'my net.tflite' --opset 17",
    "frozen.pb": "python -m tf2onnx.convert --graphdef frozen.pb",
    "saved_model.pb": "python -m tf2onnx.convert --saved-model",
}
NO_WAY_BACK = ("net.engine", "net.plan", "net.xml", "net.ort", "net.mlmodel")


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as failure:
        foreign.refuse(path)
    assert failure.value.exit_code == 5
    return str(failure.value)


@pytest.mark.parametrize("name", IN_PYTHON)
def test_lines_for_python_are_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"\x80")
    first, _, code = refusal(Path(name)).partition("\n\n")
    kind, line = IN_PYTHON[name]
    assert first.startswith(f"{name} is {kind}")
    assert "pip install" in first
    assert line in code
    ast.parse(code)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_quote_what_a_shell_would_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"\x80")
    assert COMMANDS[name] in refusal(Path(name))


@pytest.mark.parametrize("name", NO_WAY_BACK)
def test_what_was_compiled_has_no_way_back(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80")
    said = refusal(tmp_path / name)
    assert "name the ONNX file that it was made from" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("inside", "kind"),
    [
        ({"best/data.pkl": b"cultralytics.nn.tasks\nDetectionModel"}, "an Ultralytics checkpoint"),
        ({"ts/data.pkl": b"", "ts/code/__torch__.py": b""}, "a TorchScript model"),
        ({"ep/models/model.json": b"{}"}, "an exported program"),
        ({"net/data.pkl": b"ctorch._utils"}, "a PyTorch file"),
    ],
)
def test_what_a_file_of_pytorch_holds(tmp_path: Path, inside: dict[str, bytes], kind: str) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        for name, content in inside.items():
            archive.writestr(name, content)
    assert f"is {kind}" in refusal(tmp_path / "net.pt")


def test_folders_and_weights_with_a_config(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "saved_model.pb").write_bytes(b"\x08")
    assert f"--saved-model {saved} " in refusal(saved)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert f"optimum-cli export onnx --model {tmp_path}" in refusal(tmp_path / "model.safetensors")


def test_onnx_is_not_refused_whatever_its_suffix(tmp_path: Path) -> None:
    net = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) { y = Relu(x) }'
    )
    for name in ("model.onnx", "model.pb", "no suffix"):
        onnx.save(net, tmp_path / name)
        foreign.refuse(tmp_path / name)
