"""Hash what a module computes, not how it is written down.

Comments, docstrings and layout do not change what generated rows contain, so they must not make a new cache
folder.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_hash(path: Path) -> str:
    """Return the SHA-256 of a module's code without its documentation.

    It is hexadecimal, and leaves out comments and docstrings.
    Raises: OSError if the file cannot be read; SyntaxError if it is not Python.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            # A body may not be empty.
            node.body = [*node.body[1:]] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
