"""Measures ways to serve a model on a genuine Triton, and chooses one.

What to try, what to measure next, when to stop and what to recommend are `rules/`, which do no I/O
and know no clock: they are given what was measured and name the next thing. Around them stand what
makes load, what loads a candidate into Triton, and the store of what was measured. What a
`tuning.yaml` says, and how a build uses it, belongs to `spec/`, because builds read it; how a
config is rendered to `repository/`.
"""
