"""The JSON Schema of spec files, generated from the types that validate them.

What a schema cannot say (that files exist, that a target is known and has the precision) is left
to the loader.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from repo_builder.spec import (
    raw,
    raw_family,
    raw_pipeline,
    raw_pruning,
    raw_release,
    raw_source,
    raw_training,
    serving,
    tuning,
)
from repo_builder.spec.load import OWN
from repo_builder.targets.loader import CATALOG

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def of_specs() -> dict[str, Any]:
    """The schema of spec files; `targets` is not required, since a `defaults.yaml` may have it."""
    model, pipeline = _of_models(), _explained(raw_pipeline.RawPipeline)
    pipeline["required"].remove("targets")
    for shape in (pipeline, pipeline["$defs"]["RawPipelineOverride"]):
        budget = shape["properties"]["latency_budget_ms"]["anyOf"]
        budget.insert(0, {"type": "number", "exclusiveMinimum": 0})
    for shape in (model, pipeline):
        _offer_targets(shape)
    shapes = {**model.pop("$defs"), **pipeline.pop("$defs"), "Model": model, "Pipeline": pipeline}
    return {
        "$schema": DIALECT,
        "title": "repo-builder spec",
        "$defs": dict(sorted(shapes.items())),
        "type": "object",
        "if": {"properties": {"kind": {"const": "pipeline"}}, "required": ["kind"]},
        "then": {"$ref": "#/$defs/Pipeline"},
        "else": {"$ref": "#/$defs/Model"},
    }


def _of_models() -> dict[str, Any]:
    model = {**_explained(raw.RawSpec), "required": ["name", "version", "source"]}
    optimize = model["properties"]["optimize"]
    model["properties"]["optimize"] = {
        "anyOf": [{"const": "auto"}, {"$ref": optimize.pop("$ref")}],
        **optimize,
    }
    return model


def _explained(shape: type[BaseModel]) -> dict[str, Any]:
    """A model's schema, with its docstrings and those of all that it is made of."""
    schema = shape.model_json_schema()
    shapes = {shape.__name__: schema, **schema["$defs"]}
    for model in (
        m
        for room in (
            raw,
            raw_source,
            raw_training,
            raw_pruning,
            raw_family,
            raw_release,
            raw_pipeline,
            serving,
        )
        for m in vars(room).values()
    ):
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__name__ in shapes:
            _explain(shapes[model.__name__], model)
    for name, one in shapes.items():
        for field, value in one.get("properties", {}).items():
            value.setdefault("description", _derived(name, field, value, schema["$defs"]))
    return schema


def _derived(shape: str, field: str, value: dict[str, Any], shapes: dict[str, Any]) -> str:
    """What a property without words of its own is: that of its shape, or Triton's by this name."""
    for one in (value, *value.get("anyOf", ())):
        said = shapes.get(one.get("$ref", "").rpartition("/")[2], {}).get("description")
        if said:
            return str(said).split("\n\n")[0]
    owner = "ModelConfig" if shape.startswith("Raw") else shape
    return f"`{field}` of {owner}, as Triton's model_config.proto has it."


def _offer_targets(schema: dict[str, Any]) -> None:
    """Let an editor offer the catalog's targets; others may lie in a user's `--targets-dir`."""
    known = sorted(file.stem for file in CATALOG.glob("*.yaml"))
    items = schema["properties"]["targets"]["items"]
    schema["properties"]["targets"]["items"] = {"anyOf": [{"enum": known}, items]}


def _explain(shape: dict[str, Any], model: type[BaseModel]) -> None:
    """Give every property the docstring of its field as description."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            texts.update(_docstrings(base))
    for name, field in model.model_fields.items():
        if name in texts:
            shape["properties"][field.alias or name]["description"] = texts[name]


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Field -> the string that follows it in the source of its class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    return {
        field.target.id: inspect.cleandoc(str(text.value.value))
        for field, text in pairwise(getattr(definition, "body", []))
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    }


def of_defaults() -> dict[str, Any]:
    """The schema of `defaults.yaml`: nothing is required, and what each spec says itself is out."""
    schema = {"$schema": DIALECT, **_of_models()}
    _offer_targets(schema)
    schema["title"] = "repo-builder defaults of a folder"
    schema["description"] = "What the spec files of this folder share; each may say otherwise."
    for key in OWN:
        del schema["properties"][key]
    for shape in (schema, *schema["$defs"].values()):
        shape.pop("required", None)
    return schema


def of_tunings() -> dict[str, Any]:
    """The schema of `tuning.yaml`."""
    schema = tuning.RawTuning.model_json_schema()
    shapes = {"RawTuning": schema, **schema["$defs"]}
    for name, shape in shapes.items():
        _explain(shape, getattr(tuning, name))
        for field, value in shape.get("properties", {}).items():
            value.setdefault("description", _derived(name, field, value, schema["$defs"]))
    schema["title"] = "repo-builder tuning"
    return {"$schema": DIALECT, **schema}
