"""The Jinja templates that ship beside the code. Jinja is imported where one is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repo_builder.base import resources

if TYPE_CHECKING:
    from jinja2 import Template


def load(
    name: str,
    folder: str = "templates",
    *,
    html: bool = False,
    last_newline: bool = True,
    strip_blocks: bool = False,
) -> Template:
    """The template `name` of a shipped folder; a name that its context lacks is an error.

    Only with `html` is what it prints escaped. `last_newline` keeps the one at the end of the file;
    `strip_blocks` leaves no trace of the lines that hold a `{% ... %}` alone.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resources.folder(folder)),
        undefined=jinja2.StrictUndefined,
        autoescape=html,  # noqa: S701 - configs, code and Dockerfiles are not HTML
        keep_trailing_newline=last_newline,
        trim_blocks=strip_blocks,
        lstrip_blocks=strip_blocks,
    )
    return environment.get_template(name)
