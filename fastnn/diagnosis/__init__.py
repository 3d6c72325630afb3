"""A doctor for the learning process: what a run and a model show, in words."""

from .finding import Finding

__all__ = ["Finding"]
