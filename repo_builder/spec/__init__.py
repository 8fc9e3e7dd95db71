"""Spec files: raw YAML shape, validation, and the resolved frozen `Spec`."""
