"""A class name stands for one thing in the whole product."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Mapping

from tests.support.places import ROOT

PACKAGES = ("profiles", "store", "engine", "mathrl_tui")


def sources() -> dict[str, str]:
    """Return path → text of the product's modules."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def type_names(tree: ast.Module) -> Iterable[str]:
    """Yield the names of classes, and those of type aliases of a module: they begin with a capital, not a constant."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        if isinstance(node, ast.Assign) and not is_type_variable(node.value):
            names = (target.id for target in node.targets if isinstance(target, ast.Name))
            yield from (name for name in names if name[0].isupper() and not name.isupper())


def is_type_variable(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == "TypeVar"


def imported(tree: ast.Module) -> Iterable[str]:
    """Yield the names that a module imports from other projects."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] not in PACKAGES:
            yield from (name.asname or name.name for name in node.names)


def ambiguous(modules: Mapping[str, str]) -> dict[str, list[str]]:
    """Return name → modules, for names of types that are defined twice or imported from elsewhere too."""
    defined, foreign = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for path, text in modules.items():
        tree = ast.parse(text)
        for name in type_names(tree):
            defined[name].append(path)
        for name in imported(tree):
            foreign[name].append(path)
    return {
        name: paths + foreign[name] for name, paths in defined.items() if len(paths) > 1 or name in foreign
    }


def test_a_class_name_stands_for_one_thing() -> None:
    assert ambiguous(sources()) == {}


def test_the_check_finds_two_classes_an_alias_and_a_foreign_name() -> None:
    modules = {
        "a.py": "class Mark: pass\nclass Other: pass\nRow = list[str]\nITEMS = 3\nItem = TypeVar('Item')",
        "b.py": "class Mark: pass\nclass Row: pass\nItem = TypeVar('Item')\nITEMS = 4",
        "c.py": "def f():\n    from torch import Tensor\nclass Tensor: pass\nfrom store.x import Other",
    }
    assert ambiguous(modules) == {
        "Mark": ["a.py", "b.py"],
        "Row": ["a.py", "b.py"],
        "Tensor": ["c.py", "c.py"],
    }
