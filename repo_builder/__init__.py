"""repo-builder: from model spec files to served, verified edge models.

Nothing stands here beside this file and `__main__`: every module lives in a room, and
docs/architecture.md says which. A build's path starts in `build/`, an application's in `client/`.
"""

__version__ = "0.1.0"
