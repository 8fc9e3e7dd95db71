"""Spec files: what a user may write, and the frozen `Spec` that the builder works with.

`load.load` is the path: a document becomes a `raw` shape (`raw_pipeline` for pipelines), which
`resolve` turns into a `Spec` for each target. `serving`, `scheduling` and `protocol` are Triton's
own model configuration as types; `schema` is the same for editors. Only what can be said from the
file and the target is said here: what the model's file holds belongs to `introspect/`.
"""
