"""The JSON Schema of target files, from the shapes that read them."""

from __future__ import annotations

from typing import Any

from repo_builder.targets.types import Target


def of_targets() -> dict[str, Any]:
    """Draft 2020-12. Nothing is required: what a file leaves out may come by `extends`."""
    schema = Target.model_json_schema()
    for shape in (schema, *schema["$defs"].values()):
        shape.pop("required", None)
    del schema["properties"]["name"]  # the file's
    base = {
        "type": "string",
        "description": "The target that this one refines.",
    }
    schema["properties"] = {"extends": base, **schema["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Target file of repo-builder",
    }
