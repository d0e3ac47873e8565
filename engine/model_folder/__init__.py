"""Check a Hugging Face model folder without torch, before a run starts.

    folder or hub name ─▶ located ─▶ check_folder (the model) ─▶ check_use (what a profile needs of it)

Each check reads a few small files and raises FolderFault with one line: the file, the fault, the remedy.
"""

from engine.model_folder.check import check_folder, check_use, located
from engine.model_folder.hub import small_files
from engine.model_folder.reading import FolderFault, ModelFolder, Unavailable
from engine.model_folder.vocabulary import check_loaded

__all__ = [
    "FolderFault",
    "ModelFolder",
    "Unavailable",
    "check_folder",
    "check_loaded",
    "check_use",
    "located",
    "small_files",
]
