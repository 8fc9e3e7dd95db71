"""Entry point of the command line: runs it and turns every error into one line and an exit code."""

from __future__ import annotations

import gc
import sys
import traceback

import click

from repo_builder.base import console
from repo_builder.base.errors import RepoBuilderError


def main() -> None:
    """Run the command line; a user's mistake is one line and an exit code, never a traceback."""
    from repo_builder.cli import cli

    # Hardly any garbage is in cycles here, and to look for it took a tenth of a build with
    # nothing to do.
    gc.set_threshold(100_000, 50, 50)
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        console.say("stopped")
        sys.exit(130)
    except click.ClickException as failure:
        failure.show()
        sys.exit(failure.exit_code)
    except RepoBuilderError as failure:
        if console.talk.debug:
            traceback.print_exception(failure)
        console.error(str(failure))
        sys.exit(failure.exit_code)


if __name__ == "__main__":
    main()
