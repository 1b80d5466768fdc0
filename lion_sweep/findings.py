"""`python -m lion_sweep.findings`: a page of what was found, written from result files alone.

conf/chapter has a file for every chapter: what it asks, the commands that make its results, and
what these can and cannot say. The results of a chapter lie in ROOT/findings/NAME, or, where nothing
does, in NAME.zip, in the folder beside the page that is called like it; --keep writes that file of
what lies in ROOT. The same results give the same page; chapters without any say so. With --run the
commands of a chapter are given first, as they stand in the page; what is finished, or kept in an
archive, costs nothing.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lion_sweep import command
from lion_sweep.errors import UserError
from lion_sweep.files import write_text
from lion_sweep.report.chapters import COLLECTIONS, Chapter, chapters, markdown
from lion_sweep.report.kept import CELLS, keep, unpack

PAGE = Path("docs/findings.md")
HEAD = """\
# Findings

What cells of this grid came to, chapter by chapter. `make findings` writes this page from result
files alone: of `outputs/findings`, or of archives beside it (`docs/findings/NAME.zip`).
`make findings FINDINGS_ARGS="--run NAME"` gives a chapter's commands first, `--keep NAME` archives.
`$COLLECTIONS` is a folder of collections in BEIR's form. How to read tables and verdicts: see
[the report](report.md).
"""


def page(found: Sequence[Chapter], root: Path, archives: Path) -> str:
    """All chapters, from the results below `root`, else from those kept in `archives`."""
    parts = [HEAD.strip()]
    with TemporaryDirectory() as scratch:
        for chapter in found:
            where = root
            if _kept_alone(chapter, root, archives):
                where = Path(scratch)
                unpack(archives / f"{chapter.name}.zip", where / chapter.name)
            parts.append(markdown(chapter, where))
    return "\n\n".join(parts) + "\n"


def _kept_alone(chapter: Chapter, root: Path, archives: Path) -> bool:
    """Whether its results are in an archive, and none below `root`."""
    there = any((root / chapter.name).glob(f"{CELLS}/*"))
    return not there and (archives / f"{chapter.name}.zip").is_file()


def run(chapter: Chapter, root: Path, archives: Path, collections: Path | None) -> None:
    """Give the commands of a chapter, one after the other.

    Where nothing of it lies below `root`, they go on after what was kept in `archives`. Raises
    `UserError` where its collections are not said, and after a command that fails.
    """
    shown = chapter.shown(root)
    if collections is None and any(COLLECTIONS in one for one in shown):
        raise UserError(
            f"{chapter.name} reads collections of your own: say --collections FOLDER, which holds "
            f"those that its commands name."
        )
    if _kept_alone(chapter, root, archives):
        unpack(archives / f"{chapter.name}.zip", root / chapter.name)
    own = str(Path(sys.executable).parent)
    settings = {"PATH": os.pathsep.join([own, os.environ.get("PATH", "")])}
    if collections:
        settings[COLLECTIONS.removeprefix("$")] = str(collections)  # as said: results tell it
    for one in shown:
        print(f"$ {one}", flush=True)
        if code := subprocess.run(one, shell=True, env=os.environ | settings).returncode:
            raise UserError(
                f"the command ended with {code}: given again, it goes on with what is unfinished."
            )


def _options() -> command.Parser:
    made = command.parser("findings", __doc__)
    names = ", ".join(one.name for one in chapters())
    said = f"chapters whose commands are given first, of {names}"
    made.add_argument("--run", nargs="+", default=[], metavar="NAME", help=said)
    said = "folder of the collections that commands read as $COLLECTIONS/NAME"
    made.add_argument("--collections", type=Path, metavar="FOLDER", help=said)
    said = "chapters whose results are kept beside the page, in one file each"
    made.add_argument("--keep", nargs="+", default=[], metavar="NAME", help=said)
    said = "where the page is written (%(default)s)"
    made.add_argument("--to", type=Path, default=PAGE, metavar="FILE", help=said)
    return made


def main(words: Sequence[str]) -> int:
    """Write the page."""
    options = command.parse(_options(), words)
    found, root = chapters(), options.root / "findings"
    known = {one.name: one for one in found}
    for name in (*options.run, *options.keep):
        if name not in known:
            raise UserError(f"There is no chapter {name}: say {', '.join(known)}.")
    archives = options.to.with_suffix("")
    for name in options.run:
        run(known[name], root, archives, options.collections)
    options.to.parent.mkdir(parents=True, exist_ok=True)
    for name in options.keep:
        if not any((root / name).glob(f"{CELLS}/*")):
            raise UserError(f"--keep {name}: {root / name} has no cells; --run {name} makes them.")
        keep(root / name, archives / f"{name}.zip")
    write_text(options.to, page(found, root, archives))
    print(f"findings: {options.to}")
    return 0


if __name__ == "__main__":
    command.run(main)
