"""Environment variables that disable the progress bars of libraries.

A log cannot redraw a line, so a progress bar would fill it with kilobytes of copies.
"""

from __future__ import annotations

# Read by transformers and the hub, by datasets, and by every other tqdm bar that does not set `disable`
# itself.
NO_BARS = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
