"""Releases: what a device gets, and how few bytes bring it there.

Building models belongs to `build/`, serving them to `serve/`. `delta/` has its own path.
"""
