"""The JSON Schema of spec files, generated from the types that validate them.

What a schema cannot say (that files exist, that a target is known and has the precision) is left
to the loader.
"""

from __future__ import annotations

from typing import Any

from repo_builder.spec.load import OWN
from repo_builder.spec.raw import RawSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def of_specs() -> dict[str, Any]:
    """The schema of spec files; `targets` is not required, since a `defaults.yaml` may have it."""
    schema = {"$schema": DIALECT, **RawSpec.model_json_schema()}
    return {**schema, "title": "repo-builder spec", "required": list(OWN)}


def of_defaults() -> dict[str, Any]:
    """The schema of `defaults.yaml`: nothing is required, and what each spec says itself is out."""
    schema = of_specs()
    schema["title"] = "repo-builder defaults of a folder"
    schema["description"] = "What the spec files of this folder share; each may say otherwise."
    for key in OWN:
        del schema["properties"][key]
    for shape in (schema, *schema["$defs"].values()):
        shape.pop("required", None)
    return schema
