"""Folders that tests need: the repository, these helpers, and real rows if there are any."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUPPORT = Path(__file__).parent
SHARED = Path(os.environ.get("MATHRL_SHARED", ROOT.parent / "shared")).resolve()
