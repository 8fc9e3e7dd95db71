"""Triton model repositories: typed config, rendering, layout, atomic publication, lint."""
