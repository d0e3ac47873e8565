"""The versions and the device that a benchmark's figures belong to."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Return versions and device, for the interpretation of the figures."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for package in ("torch", "transformers", "liger-kernel", "trl", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    return found
