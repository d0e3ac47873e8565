"""The documents name what exists: relative links, headings, files, modules and tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.places import ROOT

PACKAGES = ("profiles", "store", "engine", "mathrl_tui")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], key=lambda path: path.relative_to(ROOT).parts
)
_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_PATH = re.compile(rf"(?:{'|'.join(PACKAGES)}|tests|docs|\.ci)/[\w./-]+")
_MODULE = re.compile(rf"(?:python -m )?((?:{'|'.join(PACKAGES)}|tests)(?:\.\w+)+)(?:\s.*)?")
_TEST = re.compile(r"(?:pytest )?(?:[\w/]+/)?(test_\w+\.py)(?: .*)?")
# Files of a home.
HOME_FILES = {"store.duckdb", "store.gate", "store.lock"}
# The history names files by the names that they had then.
HISTORY = {"CHANGELOG.md", "LOG.md"}


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def missing_link(page: Path, target: str) -> bool:
    """Return True if a relative link leads nowhere."""
    if re.match(r"[a-z]+:", target):
        return False
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.exists():
        return True
    return bool(anchor) and path.suffix == ".md" and anchor not in anchors(path)


def missing_name(code: str) -> str:
    """Return the file or module that `code` names and that does not exist, else an empty string."""
    if code in HOME_FILES:
        return ""
    if _PATH.fullmatch(code):
        # Tests are also named by their path below tests/, which mirrors that of the module.
        return "" if (ROOT / code).exists() or (ROOT / "tests" / code).is_file() else code
    if test := _TEST.fullmatch(code):
        return "" if list((ROOT / "tests").rglob(test.group(1))) else code
    module = _MODULE.fullmatch(code)
    return module.group(1) if module and not is_importable(module.group(1)) else ""


def is_importable(name: str) -> bool:
    """Return True for a module, or for a name that is defined in a module."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.is_dir() and length == len(parts):
            return True
        file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if file.is_file():
            rest = parts[length:]
            return all(re.search(rf"\b{part}\b", file.read_text(encoding="utf-8")) for part in rest)
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    found = [first or second for first, second in _LINK.findall(prose(page))]
    assert [target for target in found if missing_link(page, target)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_module_that_is_named_exists(page: Path) -> None:
    if page.name in HISTORY:
        pytest.skip("names of its time")
    created = set(re.findall(r"^Create `([^`]+)`", prose(page), re.MULTILINE))
    assert [code for code in _CODE.findall(prose(page)) if code not in created and missing_name(code)] == []


def test_the_checks_find_what_is_missing(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title, here\n")
    for target in ("gone.md", "page.md#no-title"):
        assert missing_link(page, target)
    for target in ("page.md", "#a-title-here", "https://example.org/x"):
        assert not missing_link(page, target)
    for code in ("engine/gone.py", "engine.gone", "test_gone.py", "python -m tests.gone --rows 3"):
        assert missing_name(code)
    for code in (
        "engine/plan.py",
        "engine.plan.make_plan",
        "python -m tests.bench.store --rows 3",
        "grpo.loss",
    ):
        assert not missing_name(code)


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = [first or second for first, second in _LINK.findall(prose(page))]
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links if ":" not in link]
    assert {str(page.relative_to(ROOT)) for page in set(PAGES) - reached} == set()
