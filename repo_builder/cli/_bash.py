"""Completion for bash as users type: `digits@cp`, `--target=cp`, `'*@cp`.

Readline ends words at `@`, `=` and `:` too, and replaces only what follows the last of them.
click's own class takes such a part for the whole word. So here the line itself is split, and what
readline has already is cut from the answers.
"""

from __future__ import annotations

import os
from typing import Any

from click.shell_completion import BashComplete, CompletionItem, split_arg_string

_SCRIPT = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response type value

    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete $1)

    COMPREPLY=()
    while IFS=',' read -r type value; do
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
        fi
    done <<< "$response"

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


_SPECIAL = ("@", "$")


class Bash(BashComplete):
    """Takes the place of click's class of the same name."""

    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the last, and the last, which may be empty."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        begun = last_word(line)
        self._typed = words.pop() if begun and words else ""
        self._quoted = begun.count("'") % 2 == 1 or begun.count('"') % 2 == 1
        return words, self._typed

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """One line of the answer: its type, and its value without what readline has already."""
        value = str(item.value)
        if item.type == "plain" and not self._quoted:
            value = value[kept(self._typed, value, os.environ.get("COMP_WORDBREAKS", "")) :]
        return f"{item.type},{value}"


def last_word(line: str) -> str:
    """What stands behind the last space that is not quoted, with its quotes."""
    begin, quote, escaped = 0, "", False
    for place, character in enumerate(line):
        if escaped or (character == "\\" and quote != "'"):
            escaped = not escaped
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character.isspace():
            begin = place + 1
    return line[begin:]


def kept(typed: str, value: str, breaks: str) -> int:
    """How many characters of `value` stand before the part that readline replaces.

    That begins behind the last of `breaks` that was typed, or with it, if it is one of the special
    prefixes that bash gives readline.
    """
    own = typed if value.startswith(typed) else typed.partition("=")[2]
    last = max((own.rfind(character) for character in breaks), default=-1)
    return last if last >= 0 and own[last] in _SPECIAL else last + 1
