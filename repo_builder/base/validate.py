"""Checks documents against pydantic types; all problems at once, in words for users."""

from __future__ import annotations

import types
import typing
from typing import TYPE_CHECKING, Annotated, Any

from repo_builder.base.document import Document, Path_
from repo_builder.base.errors import Problem, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_SHOWN = 60
_SAID = {
    "bool_type": "must be true or false",
    "dataclass_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "mapping_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "string_pattern_mismatch": "must match {pattern}",
    "string_type": "must be text",
    "too_long": "must have at most {max_length} items",
    "too_short": "must have at least {min_length} items",
    "tuple_type": "must be a list",
}
"""Pydantic's findings in this project's words."""


def check(model: type[BaseModel], document: Document) -> tuple[BaseModel | None, list[Problem]]:
    """Validate a document against a pydantic model; None and all problems where it does not fit."""
    from pydantic import ValidationError

    if not isinstance(document.value, dict):
        return None, [document.problem((), "must be a mapping of keys to values")]
    try:
        return model.model_validate(document.value), []
    except ValidationError as failure:
        return None, _problems(model, document, failure)


def _problems(
    model: type[BaseModel], document: Document, failure: ValidationError
) -> list[Problem]:
    problems = []
    for item in failure.errors(include_url=False):
        path = _own_path(document.value, item["loc"])
        kind, given = item["type"], item["input"]
        if kind == "extra_forbidden":
            what, fix = "unknown key", did_you_mean(str(path[-1]), _known_keys(model, path[:-1]))
        elif kind == "missing":
            path = (*path, item["loc"][-1])
            what, fix = "is missing", f"write `{path[-1]}: ...`"
        elif kind == "value_error":
            what, _, fix = str(item["ctx"]["error"]).partition("; ")
        elif kind == "literal_error" and isinstance(given, str):
            words = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            what, fix = f"unknown value {_short(given)}", did_you_mean(given[:_SHOWN], words)
        else:
            said = _SAID[kind].format(**item.get("ctx", {})) if kind in _SAID else _own_words(item)
            what = f"{said}, not {_short(given)}"
            quotes = kind == "string_type" and not isinstance(given, (dict, list, type(None)))
            fix = "write it in quotes" if quotes else ""
        problems.append(document.problem(path, what, fix))
    return sorted(set(problems))


def _own_words(item: ErrorDetails) -> str:
    """What pydantic says, as part of a line."""
    return item["msg"][0].lower() + item["msg"][1:]


def _own_path(value: Any, location: tuple[str | int, ...]) -> Path_:
    """Pydantic's location less what is no key of ours, such as the name of a union's branch."""
    path: list[str | int] = []
    for step in location:
        inside = step in value if isinstance(value, dict) else False
        if isinstance(value, list) and isinstance(step, int):
            inside = step < len(value)
        if inside:
            path.append(step)
            value = value[step]
    return tuple(path)


def _known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    """The keys that the model allows at `path`."""
    annotation: Any = model
    for step in path:
        annotation = _plain(annotation)
        if hasattr(annotation, "model_fields"):
            fields = {f.alias or name: f for name, f in annotation.model_fields.items()}
            annotation = fields[str(step)].annotation
        else:
            annotation = typing.get_args(annotation)[0 if isinstance(step, int) else 1]
    fields = getattr(_plain(annotation), "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _plain(annotation: Any) -> Any:
    """An annotation less `Annotated` and `| None`."""
    while typing.get_origin(annotation) in (Annotated, typing.Union, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return annotation


def _short(value: Any) -> str:
    """A value as a user would write it, cut to what fits a line."""
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value)
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"'{text}'" if isinstance(value, str) else text
