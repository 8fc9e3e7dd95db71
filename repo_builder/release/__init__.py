"""Releases: what a device gets, and how few bytes bring it there.

    made = create(Path("build"), Registry(Path("registry")), "candidate")

The path starts in `create.py`: what a build published becomes a `types.Release` for each model, and
the `registry` keeps it as files. `diff` says what a user notices between two. Building models
belongs to `build/`, serving them to `serve/`. `delta/` has its own path; `deltas` makes
those between releases.
"""
