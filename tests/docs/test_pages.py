"""README and docs: links lead somewhere, code is code, the table of keys is current."""

import ast
import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from doc_commands import PAGES, ROOT, blocks, commands

from lion_sweep.config.schema import Config
from lion_sweep.config.section import Section

LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PATHS = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives a page's headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PATHS)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links {link}"


def test_every_page_can_be_reached_from_the_first_one() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        names = (link.partition("#")[0] for link in LINK.findall(page.read_text(encoding="utf-8")))
        left += [(page.parent / name).resolve() for name in names if name and ":" not in name]
    assert reached >= {page.resolve() for page in PAGES}


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PATHS)
def test_files_that_it_shows_are_of_their_language(page: Path) -> None:
    for _, name, text in blocks(page.read_text(encoding="utf-8")):
        if name.endswith(".py"):
            ast.parse(text)
        elif name.endswith(".yaml"):
            assert yaml.safe_load(text)


def test_commands_are_found_where_they_stand() -> None:
    page = ROOT / "docs" / "slurm.md"
    found = list(commands(page))
    lines = page.read_text(encoding="utf-8").split("\n")
    assert len(found) >= 8
    for shown in found:
        assert lines[shown.line - 1].strip().startswith(" ".join(shown.words[:3]))
    longest = max(found, key=lambda shown: len(shown.words))
    assert longest.words[-1] == "site.time_limit=24"  # on its second line


def keys() -> ModuleType:
    """The script that makes the table of keys."""
    path = ROOT / "docs" / "reference" / "make_keys.py"
    spec = importlib.util.spec_from_file_location("make_keys", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_keys_is_current() -> None:
    module = keys()
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), (
        "conf/ or the schema has changed: python docs/reference/make_keys.py"
    )


def test_the_table_of_keys_has_every_key_of_every_section() -> None:
    text = keys().PAGE.read_text(encoding="utf-8")
    for group in fields(Config):
        if isinstance(group.type, type) and issubclass(group.type, Section):
            for key in fields(group.type):
                assert re.search(rf"`{group.name}\.{key.name}[.`]", text), (
                    f"{group.name}.{key.name}"
                )
        else:
            assert re.search(rf"`{group.name}(=|`)", text), group.name


def test_a_comment_is_of_the_key_that_it_stands_at() -> None:
    text = """# What it is.
# In two lines.
first: 1 # said of it
  # and more
# said of the second
second: # not of a section
  inner: {a: 1} # of the inner one
# of the third
third: null
"""
    found = {entry.key: (entry.value, entry.said) for entry in keys().entries(text)}
    assert found == {
        "first": ("1", "said of it and more"),
        "second.inner": ("{a: 1}", "of the inner one"),
        "third": ("null", "of the third"),
    }
    assert keys().intro(text.splitlines()) == "What it is. In two lines."
