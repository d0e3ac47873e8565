"""The error for a model that this project cannot compute exactly."""

from __future__ import annotations


class UnsupportedModel(ValueError):
    """This project would compute wrong numbers for the model.

    The message gives the reason.
    """
