"""The error for a model that this project cannot compute exactly."""

from __future__ import annotations


class UnsupportedModel(ValueError):
    """A model whose numbers would be wrong here; the message gives the reason in one line."""
