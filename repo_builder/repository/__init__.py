"""Triton model repositories: what a config says, how it is written, and how it is published.

`config` decides a model's config and `ensemble` a pipeline's, `render` writes and reads
config.pbtxt, `publish` puts models into one folder in one atomic swap; `versions` says which
earlier ones stay beside them, `multi_target` merges several targets' models, `lint/` says what
Triton would refuse. Starting Triton belongs to `serve/`, images of a repository to `images/`.
"""
