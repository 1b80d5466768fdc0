"""The commands that README and docs show, and what tests do with each: run, compose, or not.

A command is a line of a block (fenced, or set in by four spaces) that begins with `python` or
`make`, after variables that it sets. A block below a paragraph that begins with "`FILE`:" or
"`FILE`, " is a file of the reader's.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SET = re.compile(r"[A-Z_]+=\S*")  # a variable, ahead of a command
FILE = re.compile(r"`([\w./]+\.(?:py|yaml))`(:$|, )")

Mode = StrEnum("Mode", ["run", "compose", "rehearse", "listed"])

# What a command needs that a machine of tests has not: it is composed, and its cells are checked.
NEEDS = {
    r"ladder=full": "GPUs and gated weights",
    r"ladder=cut": "weights in a package that is an extra, and two hours for the 18 cells",
    r"paths\.root=outputs/findings": "time: chapters of docs/findings.md take minutes to hours",
    r"model=smollm2": "weights in a package that is an extra, and 39 minutes",
    r"evaluation=paper|data=msmarco|BeIR/": "collections on the Hub",
    r"split: dev": "a split that the small folder has not",
    r"teacher=(\S+,)?cross-encoder": "a cross-encoder; tests/data/test_cross_encoder.py makes some",
    r"engine=seismic": "Seismic, an extra; tests/search/test_seismic.py searches with it",
    r"model=1b,3b,8b": "time: tests/conftest.py runs these 18 cells, small",
    r"grid=isoflop": "time: 18 cells of sizes of their own",
    r"paradigm=sparse,dense,multi-vector": "time: tests/stages/test_identity_walk.py makes cells",
    r"site\.parallel": "time: tests/launch/test_local.py runs cells side by side",
    r"model=1b,3b loss=cl,kd$": "the private cluster; tests/launch/test_slurm_grid.py has it",
}
# The only ones of which nothing is tried here.
LISTED = {
    r"checkpoint=colbert-ir/": "a released model on the Hub; tests/interop makes one of its layout",
    r"checkpoint=(hzeng|castorini)/": "released adapters on the Hub; tests/interop makes some of "
    "their layouts",
    r"dashboard me/lion_sweep$": "an account; tests/system/test_dashboard.py has what is sent",
    r"--from wandb:": "an account; tests/report/test_remote.py has a server of its own",
    r"benchmarks\.": "measures for minutes; tests/test_benchmarks.py and test_gpu_rehearsal.py run "
    "them small",
}


@dataclass(frozen=True)
class Shown:
    """A command as a page shows it."""

    page: str
    line: int
    env: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return shlex.join(self.words)

    @property
    def module(self) -> str:
        """What `python -m` runs; empty for a file."""
        return self.words[2] if self.words[:2] == ("python", "-m") else ""

    @property
    def mode(self) -> tuple[Mode, str]:
        """What tests do with it, and why no more."""
        for pattern, reason in LISTED.items():
            if re.search(pattern, self.text):
                return Mode.listed, reason
        if self.words[0] == "make":
            return Mode.rehearse, "it installs, or takes minutes: what it would run is looked up"
        for pattern, reason in NEEDS.items():
            if self.module == "lion_sweep" and re.search(pattern, self.text):
                return Mode.compose, reason
        return Mode.run, ""


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """(number of the first line, file that it is named to be, text) of every block of a page."""
    lines = text.split("\n")
    number, name = 0, ""
    while number < len(lines):
        line = lines[number]
        fenced = line.lstrip().startswith("```")
        set_in = line.startswith("    ") and (number == 0 or not lines[number - 1].strip())
        if not (fenced or set_in):
            if found := FILE.match(line):
                name = found[1]
            elif line.strip() and not lines[number - 1].strip():  # another paragraph
                name = ""
            number += 1
            continue
        first = number + fenced
        end = first
        if fenced:
            while not lines[end].lstrip().startswith("```"):
                end += 1
        else:
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
        yield first + 1, name, dedent("\n".join(lines[first:end])).rstrip() + "\n"
        name, number = "", end + fenced


def commands(page: Path) -> Iterator[Shown]:
    """Those of a page."""
    for first, name, text in blocks(page.read_text(encoding="utf-8")):
        if name:
            continue
        number = first
        for logical in re.split(r"(?<!\\)\n", text):
            begun, number = number, number + logical.count("\n") + 1
            whole = logical.replace("\\\n", " ")
            start = next((w for w in whole.split() if not SET.fullmatch(w)), "")
            if start not in ("python", "make"):
                continue
            words = shlex.split(whole, comments=True)
            env = words[: words.index(start)]
            told = str(page.relative_to(ROOT)), begun, tuple(env), tuple(words[len(env) :])
            yield Shown(*told)


def files() -> dict[str, str]:
    """The reader's files by name. One name stands for one text."""
    found: dict[str, str] = {}
    for page in PAGES:
        for _, name, text in blocks(page.read_text(encoding="utf-8")):
            if name:
                assert found.setdefault(name, text) == text, f"two texts of {name}"
    return found


def distinct() -> list[Shown]:
    """Every command once, where it stands first."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], Shown] = {}
    for page in PAGES:
        for shown in commands(page):
            found.setdefault((shown.env, shown.words), shown)
    return list(found.values())
