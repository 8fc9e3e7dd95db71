"""Slim, reproducible images of built repositories, one per target.

`build` holds the path: repository -> `context` (a folder that a plain `docker build` takes) ->
`assemble` (fixed times, a layer per model) -> `engine` (Docker or Podman). `sizes`, `sbom` and
`trust` look at what came out; `pins.yaml` says what goes in; `inside/` is what runs in the image.
What is served is decided in `repository/`: an image never changes a byte of it.
"""
