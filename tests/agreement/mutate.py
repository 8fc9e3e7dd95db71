"""Seeded mutations of good repositories: some stay good, most break, as a user's typing does."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor

from repo_builder.repository import render
from tests.agreement.repository import MAIN, PYTHON_MODEL, Repository

# Small numbers only: Triton takes an instance_group of 99999 at its word.
_INTS = (-1, 0, 1, 2, 3, 4, 8)
_WORDS = ("", "nope", "../up", "x", "y", "z", "0", "model.py", "labels.txt")

# Fields that the Triton at hand, 2.51, does not know yet.
_NEWER = ("model_metrics", "max_inflight_requests", "use_growable_memory")


@dataclass(frozen=True)
class Case:
    """A repository to be judged: which seed it comes from, and what was done to it."""

    seed: str
    what: str
    repository: Repository


def corpus(seeds: dict[str, Repository], count: int, seed: int) -> list[Case]:
    """The seeds themselves, and `count` cases in all; equal for an equal seed."""
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    cases = [Case(name, "as it is", repository) for name, repository in seeds.items()]
    seen = {tuple(sorted(case.repository.files.items(), key=str)) for case in cases}
    while len(cases) < count:
        name = chance.choice(sorted(seeds))
        what, changed = chance.choices(*_OPERATORS)[0](seeds[name], chance)
        key = tuple(sorted(changed.files.items(), key=str))
        if key not in seen:
            seen.add(key)
            cases.append(Case(name, what, changed))
    return cases


def _messages(message: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """A message and all messages inside it, with their paths."""
    yield path, message
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        where = f"{path}.{field.name}" if path else field.name
        if field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            if inner.type == FieldDescriptor.TYPE_MESSAGE:
                for key in sorted(value):
                    yield from _messages(value[key], f"{where}[{key}]")
        elif field.is_repeated:
            for i, each in enumerate(value):
                yield from _messages(each, f"{where}[{i}]")
        else:
            yield from _messages(value, where)


def _fields(message: Any) -> list[FieldDescriptor]:
    return [field for field in message.DESCRIPTOR.fields if field.name not in _NEWER]


def _scalar(field: FieldDescriptor, chance: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return chance.choice([v.number for v in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.7
    if field.type == FieldDescriptor.TYPE_STRING:
        return chance.choice(_WORDS)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return chance.choice([-1.0, 0.0, 0.5, 2.0])
    unsigned = field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
    return chance.choice(_INTS[1:] if unsigned else _INTS)


def _fill(message: Any, field: FieldDescriptor, chance: random.Random) -> None:
    """Give a field some value; inside a new message up to three fields."""
    if field.message_type is None:
        value = _scalar(field, chance)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
        return
    if field.message_type.GetOptions().map_entry:
        key = _scalar(field.message_type.fields_by_name["key"], chance)
        inner = field.message_type.fields_by_name["value"]
        entries = getattr(message, field.name)
        if inner.message_type is None:
            entries[key] = _scalar(inner, chance)
            return
        made = entries[key]
    elif field.is_repeated:
        made = getattr(message, field.name).add()
    else:
        made = getattr(message, field.name)
        made.SetInParent()
    fields = _fields(made)
    for inner in chance.sample(fields, min(len(fields), chance.randint(0, 3))):
        _fill(made, inner, chance)


def _on_message(
    change: Callable[[Any, random.Random], str],
) -> Callable[[Repository, random.Random], tuple[str, Repository]]:
    """A mutation of the repository from one of a random message of its config."""

    def mutate(repository: Repository, chance: random.Random) -> tuple[str, Repository]:
        config = render.parse(repository.config)
        path, message = chance.choice(list(_messages(config)))
        what = change(message, chance)
        text = text_format.MessageToString(config)
        return f"{path or 'config'}: {what}", repository.with_config(text)

    return mutate


def _add(message: Any, chance: random.Random) -> str:
    field = chance.choice(_fields(message))
    _fill(message, field, chance)
    return f"add {field.name}"


def _clear(message: Any, chance: random.Random) -> str:
    present = [field for field, _ in message.ListFields()]
    if not present:
        return "nothing"
    field = chance.choice(present)
    if field.is_repeated and not field.message_type and len(getattr(message, field.name)) > 1:
        del getattr(message, field.name)[0]
        return f"shorten {field.name}"
    message.ClearField(field.name)
    return f"clear {field.name}"


def _change(message: Any, chance: random.Random) -> str:
    present = [field for field, _ in message.ListFields() if field.message_type is None]
    if not present:
        return _add(message, chance)
    field = chance.choice(present)
    value = _scalar(field, chance)
    if field.is_repeated:
        values = getattr(message, field.name)
        values[chance.randrange(len(values))] = value
    else:
        setattr(message, field.name, value)
    return f"{field.name} becomes {value}"


def _double(message: Any, chance: random.Random) -> str:
    lists = [f for f, _ in message.ListFields() if f.is_repeated and f.message_type]
    lists = [f for f in lists if not f.message_type.GetOptions().map_entry]
    if not lists:
        return _add(message, chance)
    field = chance.choice(lists)
    values = getattr(message, field.name)
    values.add().CopyFrom(chance.choice(values))
    return f"double one of {field.name}"


def _text(repository: Repository, chance: random.Random) -> tuple[str, Repository]:
    text = repository.config
    words = sorted(set(re.findall(r"[a-z_]{4,}", text)))
    word = chance.choice(words)
    at = chance.randrange(1, len(word))
    choices: dict[str, str | bytes] = {
        f"cut after {len(text) // 2} bytes": text[: len(text) // 2],
        "no config at all": "",
        f"misspell {word}": text.replace(word, word[:at] + word[at + 1 :], 1),
        f"upper-case {word}": text.replace(word, word.upper(), 1),
        "backend twice": text + '\nbackend: "python"\n',
        "binary": b"\x00\xff\xfe" + text.encode(),
        "a stray bracket": text + "}\n",
        "another name": f'name: "other"\n{text}',
        "single quotes and commas": text.replace('"', "'").replace("\n", ",\n"),
    }
    what = chance.choice(sorted(choices))
    return what, repository.with_config(choices[what])


def _files(repository: Repository, chance: random.Random) -> tuple[str, Repository]:
    files = dict(repository.files)
    inside = sorted(p for p in files if p.startswith(f"{MAIN}/") and "config" not in p)
    path = chance.choice(inside)
    content = files[path]
    version = f"{MAIN}/1"
    moves = ("01", "v1", "0", "1abc", "-1", "7", "1.5")

    def drop() -> str:
        del files[path]
        return f"remove {path}"

    def halve() -> str:
        files[path] = content[: len(content) // 2] if content else content
        return f"cut {path} in half"

    def empty() -> str:
        files[path] = b"" if content is not None else None
        return f"empty {path}"

    def move() -> str:
        to = chance.choice(moves)
        for old in [p for p in files if p.startswith(version)]:
            files[f"{MAIN}/{to}{old.removeprefix(version)}"] = files.pop(old)
        return f"version 1 becomes {to}"

    def second() -> str:
        files[f"{MAIN}/{chance.choice(moves)}/model.py"] = PYTHON_MODEL
        return "another version folder"

    def no_config() -> str:
        del files[f"{MAIN}/config.pbtxt"]
        return "remove config.pbtxt"

    what = chance.choice([drop, halve, empty, move, second, no_config])()
    return what, Repository(files)


_OPERATORS: tuple[list[Any], list[int]] = (
    [*(_on_message(change) for change in (_change, _add, _clear, _double)), _text, _files],
    [30, 30, 14, 6, 8, 12],
)
"""Mutations and how often each is drawn."""
