"""`repo-builder verify`: is this what was built and signed?"""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console
from repo_builder.base.errors import UsageError


@click.command()
@click.argument("what", metavar="IMAGE|DIR")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A public key (.pub) to trust. Repeatable. [default: all in the keys folder]",
)
@click.option("--unsigned", is_flag=True, help="Check digests only, ask for no signature.")
def command(what: str, keys: tuple[Path, ...], unsigned: bool) -> None:
    """Check an image, or a folder that a build made, against its manifest and signature."""
    from repo_builder.images import trust

    trusted = {} if unsigned else trust.public_keys(keys)
    if not trusted and not unsigned:
        raise UsageError(
            f"no key to trust in {trust.keys_folder()}; give one with --key, or check the digests "
            "alone with --unsigned"
        )
    if Path(what).is_dir():
        digest = trust.verify_folder(Path(what), trusted)
    else:
        from repo_builder.images import archive, engine

        with archive.saved(engine.connect(), what) as saved:
            digest = trust.verify_image(what, saved, trusted)
    how = "digests only" if unsigned else "signed and whole"
    console.say(f"{what}: {how}")
    console.out(f"sha256:{digest}")
