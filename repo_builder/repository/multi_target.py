"""Merges what was built for several targets into the models of one repository; pure.

    models/digits/config.pbtxt              as of the first target
    models/digits/configs/<target>.pbtxt    chosen by tritonserver --model-config-name <target>
    models/digits/1000000/<target>/...      what differs between targets
    models/digits/1000000/...               what is the same for all

A config names its file by `default_model_filename`, and TensorRT's plans also by compute
capability, in `cc_model_filenames`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from repo_builder.base import digest
from repo_builder.base.artifact import Artifact, Blob
from repo_builder.base.digest import Json
from repo_builder.base.errors import UsageError
from repo_builder.repository.publish import Model
from repo_builder.targets import Target

FILES = {"onnxruntime": "model.onnx", "openvino": "model.xml", "tensorrt": "model.plan"}
"""Backend -> the file that it loads where a config names none."""
_LATER = "plans of {} are built later, in a repository of its own; leave it out"


def check(name: str, group: tuple[str, ...], catalog: Mapping[str, Target]) -> None:
    """UsageError where these targets cannot share a repository called `name`."""
    said = f"--together {name}={','.join(group)}"
    if name in catalog:
        raise UsageError(f"{said}: {name} is a target, which has a repository of its own")
    for target in group:
        if catalog[target].backend not in FILES:
            raise UsageError(f"{said}: {target} is not served by {', '.join(FILES)}; leave it out")
        if catalog[target].runtime == "tensorrt" and catalog[target].compile_at != "builder":
            raise UsageError(f"{said}: {_LATER.format(target)}")


def merge(built: Mapping[str, Mapping[str, Model]], catalog: Mapping[str, Target]) -> list[Model]:
    """The models of all targets as one repository's; `built` has them by target and name."""
    names = sorted({name for models in built.values() for name in models})
    of = {
        name: {target: models[name] for target, models in built.items() if name in models}
        for name in names
    }
    interfaces: dict[str, Json] = {
        name: digest.of_json({t: m.record.get("interface", "") for t, m in models.items()})
        for name, models in of.items()
    }
    return [_merge(models, interfaces, catalog) for models in of.values()]


def _merge(
    models: Mapping[str, Model], interfaces: Mapping[str, Json], catalog: Mapping[str, Target]
) -> Model:
    first = next(iter(models.values()))
    same = len({model.entry.artifact.digest for model in models.values()}) == 1
    blobs: dict[str, Blob] = {}
    texts: dict[str, bytes] = {}
    for target, model in models.items():
        compiler: Any = model.record.get("compiler") or {}
        if compiler.get("at", "builder") != "builder":  # where a spec says so, not the target
            raise UsageError(f"{model.name}: {_LATER.format(target)}")
        for file, blob in model.entry.artifact.files.items():
            blobs[file if same else f"{target}/{file}"] = blob
        for name, text in model.texts.items():
            if name != "config.pbtxt" and texts.setdefault(name, text) != text:
                raise UsageError(f"{model.name}: {name} differs for {target}; rename it there")
        config = model.texts["config.pbtxt"]
        if not same:
            config = _with_files(config, target, _plans(models, target, catalog))
        texts[f"configs/{target}.pbtxt"] = config
        texts.setdefault("config.pbtxt", config)
    entry = dataclasses.replace(first.entry, artifact=Artifact(blobs))
    record: dict[str, Json] = {**first.record, "targets": {t: m.record for t, m in models.items()}}
    if "interface" in record:
        record["interface"] = interfaces[first.name]
    uses: Any = record.get("uses")
    if uses is not None:
        record["uses"] = {name: interfaces[name] for name in uses}
    return Model(first.name, first.version, texts, entry, record)


def _plans(
    models: Mapping[str, Model], target: str, catalog: Mapping[str, Target]
) -> dict[str, str]:
    """Compute capability -> plan, of all targets that have one; of equals that of `target`."""
    plans = {}
    for name in sorted(models, key=lambda name: name == target):
        facts = catalog[name].tensorrt
        if facts and FILES["tensorrt"] in models[name].entry.artifact.files:
            plans[facts.compute_capability] = f"{name}/{FILES['tensorrt']}"
    return plans


def _with_files(text: bytes, target: str, plans: Mapping[str, str]) -> bytes:
    """A config that loads the files of `target`."""
    from google.protobuf import json_format

    from repo_builder.repository import render
    from repo_builder.spec.serving import ModelConfig

    message = render.parse(text.decode())
    if message.backend in FILES:
        file = message.default_model_filename or FILES[message.backend]
        message.default_model_filename = f"{target}/{file}"
    if message.backend == "tensorrt":
        message.cc_model_filenames.update(plans)
    fields = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return render.text(ModelConfig.model_validate(fields, strict=False)).encode()
