"""repo-builder: from model spec files to served, verified edge models."""

__version__ = "0.1.0"
