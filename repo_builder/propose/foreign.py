"""Models that are no ONNX files: how their framework writes ONNX, in lines to copy."""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path

from repo_builder.base.errors import ModelError

_NET = "model = Net()                      # your class"
_EXAMPLE = "example = torch.zeros(2, 3, 224, 224)  # what the model takes; dimension 0 is the batch"
_EXPORT = (
    "torch.onnx.export(model.eval(), (example,), {onnx}, dynamo=True,",
    '    input_names=["x"], output_names=["y"],',
    '    dynamic_shapes=({{0: torch.export.Dim("n")}},))',
)

_KEEP = (
    "# Or name the net itself, which can then be pruned and trained too: save its weights with",
    "# safetensors.torch.save_file(model.state_dict(), {safetensors}), and call",
    "# repo-builder init nets.py:make --weights {quoted_safetensors} --input x=1,3,224,224",
)

_FORMATS: Mapping[str, tuple[str, ...]] = {
    "pytorch": (
        "a PyTorch file",
        "in Python (pip install onnx onnxscript):",
        "import torch",
        _NET,
        'state = torch.load({file}, map_location="cpu", weights_only=True)',
        'model.load_state_dict(state.get("state_dict", state))',
        _EXAMPLE,
        *_EXPORT,
        *_KEEP,
    ),
    "torchscript": (
        "a TorchScript model",
        "in Python (pip install onnx):",
        "import torch",
        'model = torch.jit.load({file}, map_location="cpu").eval()',
        _EXAMPLE,
        "torch.onnx.export(model, (example,), {onnx}, dynamo=False, opset_version=17,",
        '    input_names=["x"], output_names=["y"],',
        '    dynamic_axes={{"x": {{0: "n"}}, "y": {{0: "n"}}}})',
    ),
    "exported": (
        "an exported program of PyTorch",
        "in Python (pip install onnx onnxscript):",
        "import torch",
        "program = torch.export.load({file})",
        "torch.onnx.export(program, (), {onnx}, dynamo=True,",
        '    input_names=["x"], output_names=["y"])',
        "model = program.module()",
        *_KEEP,
    ),
    "ultralytics": (
        "an Ultralytics checkpoint",
        "with (pip install ultralytics onnx); the input is then images, the output output0:",
        "yolo export model={quoted} format=onnx dynamic=True nms=False",
    ),
    "keras": (
        "a Keras model",
        "in Python (pip install keras torch onnxscript), with Keras on PyTorch:",
        "import os",
        'os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported',
        "import keras",
        "import torch",
        "model = keras.saving.load_model({file}, compile=False)",
        "example = torch.zeros(2, *model.inputs[0].shape[1:])  # write a size for what is None",
        "torch.onnx.export(model.eval(), (example,), {onnx}, dynamo=True,",
        '    input_names=["x"], output_names=["y"],',
        '    dynamic_shapes=(({{0: torch.export.Dim("n")}},),))',
    ),
    "sklearn": (
        "a Python pickle, most likely of scikit-learn",
        "in Python (pip install skl2onnx), if you trust the file, since loading it runs it:",
        "import joblib",
        "from skl2onnx import to_onnx",
        "from skl2onnx.common.data_types import FloatTensorType",
        "model = joblib.load({file})",
        'x = [("x", FloatTensorType([None, model.n_features_in_]))]',
        'table = {{"zipmap": False}} if hasattr(model, "predict_proba") else None',
        "made = to_onnx(model, initial_types=x, options=table, target_opset=17)",
        'open({onnx}, "wb").write(made.SerializeToString())',
    ),
    "tflite": (
        "a TensorFlow Lite model",
        "with (pip install tensorflow tf2onnx); it keeps the names of its tensors:",
        "python -m tf2onnx.convert --tflite {quoted} --opset 17 --output {quoted_onnx}",
    ),
    "saved-model": (
        "a SavedModel of TensorFlow",
        "with (pip install tensorflow tf2onnx); it keeps the names of its signature:",
        "python -m tf2onnx.convert --saved-model {quoted} --opset 17 --output {quoted_onnx}",
    ),
    "graph": (
        "a frozen graph of TensorFlow",
        "with (pip install tensorflow tf2onnx), naming its tensors:",
        "python -m tf2onnx.convert --graphdef {quoted} --opset 17 --output {quoted_onnx} \\",
        "    --inputs x:0 --outputs y:0",
    ),
    "safetensors": (
        "a file of weights without a model",
        "in Python (pip install safetensors onnx onnxscript):",
        "import torch",
        "from safetensors.torch import load_file",
        _NET,
        "model.load_state_dict(load_file({file}))",
        _EXAMPLE,
        *_EXPORT,
        "# Or name the net itself, which can then be pruned and trained too:",
        "# repo-builder init nets.py:make --weights {quoted} --input x=1,3,224,224",
    ),
    "transformers": (
        "a model of Hugging Face Transformers",
        "with (pip install 'optimum[onnx]'), which names the tensors:",
        "optimum-cli export onnx --model {folder} {quoted_stem}-onnx",
    ),
    "engine": ("a plan of TensorRT, which fits one GPU and cannot be turned back",),
    "openvino": ("a model of OpenVINO, which cannot be turned back",),
    "ort": ("a model in ONNX Runtime's own format, which cannot be turned back",),
    "coreml": ("a Core ML model, which cannot be turned back",),
}
"""Format -> what it is, where to write the following, and the lines."""

_SUFFIXES = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), "pytorch"),
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "keras"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "sklearn"),
    **dict.fromkeys((".engine", ".plan", ".trt"), "engine"),
    **dict.fromkeys((".mlmodel", ".mlpackage"), "coreml"),
    ".pt2": "exported",
    ".tflite": "tflite",
    ".pb": "graph",
    ".safetensors": "safetensors",
    ".xml": "openvino",
    ".ort": "ort",
}


def refuse(model: Path) -> None:
    """ModelError with the way to ONNX where `model` is a file or folder of another format.

    Nothing is loaded, since a pickle may do anything when it is: only names and bytes are read.
    """
    if not (kind := _format(model)):
        return
    what, *lines = _FORMATS[kind]
    said = {
        "file": json.dumps(str(model), ensure_ascii=False),
        "onnx": json.dumps(f"{model.stem}.onnx", ensure_ascii=False),
        "quoted": shlex.quote(str(model)),
        "safetensors": json.dumps(f"{model.stem}.safetensors", ensure_ascii=False),
        "quoted_safetensors": shlex.quote(f"{model.stem}.safetensors"),
        "quoted_onnx": shlex.quote(f"{model.stem}.onnx"),
        "quoted_stem": shlex.quote(model.stem),
        "folder": shlex.quote(str(model.parent)),
    }
    if not lines:
        raise ModelError(f"{model} is {what}; name the ONNX file that it was made from")
    where, *code = (line.format(**said) for line in lines)
    raise ModelError("\n".join([f"{model} is {what}, not ONNX; export it {where}\n", *code]))


def _format(model: Path) -> str:
    """Which of `_FORMATS` a file or folder is in, "" where it may be ONNX."""
    suffix = model.suffix.lower()
    if model.is_dir():
        return "saved-model" if (model / "saved_model.pb").is_file() else _SUFFIXES.get(suffix, "")
    kind = _SUFFIXES.get(suffix, "")
    if kind in ("pytorch", "exported"):
        kind = _of_pytorch(model) or kind
    if kind in ("pytorch", "safetensors") and (model.parent / "config.json").is_file():
        return "transformers"
    if suffix == ".pb":
        if model.name == "saved_model.pb":
            return "saved-model"
        return "" if _is_onnx(model) else kind
    return kind


def _of_pytorch(model: Path) -> str:
    """What a file of PyTorch holds, by the names in it and the classes that its pickle names."""
    try:
        with zipfile.ZipFile(model) as archive:
            inner = {name.partition("/")[2]: name for name in archive.namelist()}
            if "data.pkl" in inner:
                with archive.open(inner["data.pkl"]) as stream:
                    if b"ultralytics." in stream.read(1 << 20):
                        return "ultralytics"
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        return ""  # an old checkpoint, or damaged: `torch.load` tells
    if "models/model.json" in inner:
        return "exported"
    return "torchscript" if any(name.startswith("code/") for name in inner) else ""


def _is_onnx(model: Path) -> bool:
    """Whether a `.pb` is ONNX under the suffix of its encoding, as in ONNX's own tests."""
    from repo_builder.introspect import declared

    read = declared.parsed(model)
    return read is not None and bool(read.graph.node) and read.ir_version > 0
