"""Progress bars of libraries, switched off: a log has no line to redraw, and a bar fills kilobytes of it."""

from __future__ import annotations

# Read by transformers and the hub, by datasets, and by every other use of tqdm that leaves the choice open.
NO_BARS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
