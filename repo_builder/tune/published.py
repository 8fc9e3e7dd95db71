"""Reads what a build has published of a model: its files and its config in each runtime."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from repo_builder.base.errors import ServeError
from repo_builder.spec.candidate import Runtime
from repo_builder.tune.configured import Config, runtime_of
from repo_builder.tune.server import Servable


def servable(name: str, repositories: Iterable[Path]) -> Servable:
    """The model `name` of these published repositories, a runtime from each that has it.

    ServeError where none has it, or one serves it by a backend that is not tuned.
    """
    configs: dict[Runtime, Config] = {}
    folders: dict[Runtime, Path] = {}
    for repository in repositories:
        folder = repository / "models" / name
        if (folder / "config.pbtxt").is_file():
            config = read_config(folder / "config.pbtxt")
            runtime = runtime_of(config)
            configs[runtime], folders[runtime] = config, folder
    if not configs:
        raise ServeError(f"'{name}' was published for no target whose runtime is tuned")
    return Servable(name, configs, folders)


def read_config(path: Path) -> Config:
    """A config.pbtxt as plain JSON types, by the protocol's own names."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc import model_config_pb2

    message = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    told: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return told
