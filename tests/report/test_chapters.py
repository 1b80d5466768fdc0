"""The page of findings: from result files alone, with holes, the same bytes each time."""

import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from hydra import initialize_config_dir
from report_cells import grid
from report_results import OWN, Sweep

from lion_sweep import config as configuration
from lion_sweep import findings
from lion_sweep.cell.names import axes as cell_axes
from lion_sweep.config.composing import compose_cells, swept
from lion_sweep.config.section import plain
from lion_sweep.errors import UserError
from lion_sweep.report.axes import AXES, Axes, Cell, place, telling
from lion_sweep.report.chapters import Chapter, chapters, markdown
from lion_sweep.report.collect import Asked
from lion_sweep.report.statements import Best, Compare, Grows, Selection, Statement

FORM = {
    "title": "(z) Sizes",
    "question": "Do they grow?",
    "commands": ["python -m lion_sweep -m model=1b,3b paths.root=$ROOT"],
    "says": "this.",
    "silent": "that.",
}
SMALL = ["1b", "3b"]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lion_sweep.report.significance.PERMUTATIONS", 500)
    monkeypatch.setattr("lion_sweep.report.significance.SAMPLES", 200)


def chapter(folder: Path, **more: Any) -> Chapter:
    """The one of a folder of one file."""
    folder.mkdir(exist_ok=True)
    (folder / "sizes.yaml").write_text(json.dumps(FORM | more))
    [found] = chapters(folder)
    return found


def rows(text: str, title: str) -> list[list[str]]:
    """Of the table below a title, the header first."""
    lines = text.split(f"### {title}\n\n")[1].split("\n\n")[0].split("\n")
    split = [[word.strip() for word in line.strip("|").split("|")] for line in lines]
    return [split[0], *split[2:]]


def test_a_chapter_without_results_says_so_and_how_they_are_made(tmp_path: Path) -> None:
    text = markdown(chapter(tmp_path / "conf"), Path("mine"))
    assert text.split("\n\n") == [
        "## (z) Sizes",
        "Do they grow?",
        "    python -m lion_sweep -m model=1b,3b paths.root=outputs/findings/sizes",
        "**Not run.**",
        "**It can say** this.",
        "**It cannot say** that.",
    ]


def test_tables_hold_the_results_and_holes_and_the_same_page_comes_again(tmp_path: Path) -> None:
    asked = {"model": SMALL, "paradigm": ["dense"], "loss": ["cl", "kd"]}
    told = chapter(tmp_path / "conf", grid=asked, statements="study", costs=True)
    sweep, done = Sweep(tmp_path / "sizes", collections=(OWN, "scifact")), []
    for cell in grid(model=SMALL, paradigm=["dense"], loss=["cl"]):
        folder = sweep.write(cell, gain={OWN: {"nDCG@10": 0.125, "p": 0.01}})
        done.append(json.loads((folder / "result.json").read_text())["scores"])
    gain = {OWN: {"nDCG@10": 0.25, "p": 0.03}}
    sweep.write(Cell("1b", "dense", "kd"), gain=gain)
    text = markdown(told, tmp_path)
    assert text == markdown(told, tmp_path)
    assert "**PROXY LADDER: shrunken stand-ins" in text
    assert "3 of 3 cells that were asked for have a result" in text
    scores = rows(text, "nDCG@10 on scifact")
    assert scores[0][1:] == SMALL and scores[1][0] == "dense CL" and scores[2][2] == "—"
    for column, found in enumerate(done, start=1):
        assert scores[1][column].strip("*").startswith(f"{found['scifact']['nDCG@10']:.4f} [")
    assert rows(text, f"Gain in nDCG@10 over the untrained, {OWN}")[1:] == [
        ["dense CL", "+0.1250, p 0.01", "+0.1250, p 0.01"],
        ["dense KD", "+0.2500, p 0.03", "—"],
    ]
    # Holm: .01 x 3, .01 x 2 (hence .03 too), .03 x 1.
    assert "3 of 3 cells are significantly above their untrained selves" in text
    assert "### Findings, proxy ladder" in text and "(of stand-ins)" in text
    assert "### Efficiency" in text or "### Search" in text


def test_gains_that_holm_does_not_pass_are_named_and_seeds_are_put_together(
    tmp_path: Path,
) -> None:
    sweep = Sweep(tmp_path / "sizes")
    for seed, p in ((1, 0.001), (2, 0.03)):
        sweep.write(Cell("1b", "dense", "cl"), seed, gain={OWN: {"nDCG@10": 0.1 * seed, "p": p}})
    sweep.write(Cell("3b", "dense", "cl"), gain={OWN: {"nDCG@10": 0.2, "p": 0.02}})
    text = markdown(chapter(tmp_path / "conf"), tmp_path)
    # .02 x 2 passes, .03 x 1 is lifted to .04 and passes as well; a third of .04 would not.
    assert "+0.1500, p 0.03" in text and "2 of 2 cells" in text
    sweep.write(Cell("8b", "dense", "cl"), gain={OWN: {"nDCG@10": 0.2, "p": 0.04}})
    text = markdown(chapter(tmp_path / "conf"), tmp_path)
    assert "0 of 3 cells are significantly above" in text
    assert "; not dense CL 1b, dense CL 3b, dense CL 8b." in text


def test_a_cut_ladder_says_what_it_is_wherever_it_is_shown(tmp_path: Path) -> None:
    Sweep(tmp_path / "sizes", "cut").write(Cell("1b", "dense", "cl"))
    text = markdown(chapter(tmp_path / "conf", statements="study"), tmp_path)
    label = "**CUT LADDER: SmolLM2-135M cut after 6, 12 and 30 layers"
    assert label in text and "not a family of pretrained models" in text
    assert "undecided (of cuts of one pretrained model)" in text and "PROXY" not in text


def test_running_a_chapter_gives_its_commands_as_they_stand(tmp_path: Path) -> None:
    commands = ["mkdir -p $ROOT", "echo \"of '$COLLECTIONS'\" > $ROOT/said", "exit 3"]
    told = chapter(tmp_path / "conf", commands=commands)
    with pytest.raises(UserError, match="--collections FOLDER"):
        findings.run(told, tmp_path, tmp_path / "kept", None)
    with pytest.raises(UserError, match="ended with 3: given again, it goes on"):
        findings.run(told, tmp_path, tmp_path / "kept", tmp_path / "mine")
    assert (tmp_path / "sizes" / "said").read_text() == f"of '{tmp_path / 'mine'}'\n"


def test_a_run_goes_on_after_what_was_kept(tmp_path: Path) -> None:
    root, kept = tmp_path / "root", tmp_path / "kept"
    Sweep(root / "sizes").write(Cell("1b", "dense", "cl"))
    findings.keep(root / "sizes", kept / "sizes.zip")
    before = [path.read_bytes() for path in sorted(root.rglob("result.json"))]
    told = chapter(tmp_path / "conf", commands=["ls $ROOT/cells > $ROOT/found"])
    findings.run(told, tmp_path / "other", kept, None)
    found = sorted((tmp_path / "other").rglob("result.json"))
    assert [path.read_bytes() for path in found] == before and len(before) == 1
    assert (tmp_path / "other" / "sizes" / "found").read_text().split() == [found[0].parent.name]
    Sweep(root / "sizes").write(Cell("3b", "dense", "cl"))  # what is there is not overwritten
    shutil.rmtree(found[0].parent)
    Sweep(tmp_path / "other" / "sizes").write(Cell("8b", "dense", "cl"))
    findings.run(told, tmp_path / "other", kept, None)
    assert len(list((tmp_path / "other").rglob("result.json"))) == 1


def test_the_command_writes_the_page_and_refuses_a_chapter_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs" / "page.md"
    assert findings.main(["--root", str(tmp_path), "--to", str(page)]) == 0
    text = page.read_text()
    assert text.count("\n## ") == text.count("**Not run.**") == len(chapters()) >= 2
    with pytest.raises(UserError, match="There is no chapter none: say a-stand-ins, b-cut"):
        findings.main(["--root", str(tmp_path), "--run", "none"])


def test_a_page_of_kept_results_is_that_of_the_results(tmp_path: Path) -> None:
    """The archive has what tables read, of cells that failed too, and the same bytes each time."""
    root, page = tmp_path / "root", tmp_path / "docs" / "page.md"
    sweep = Sweep(root / "findings" / "a-stand-ins")
    for cell in grid(model=SMALL, paradigm=["dense"], loss=["cl", "kd"]):
        folder = sweep.write(cell)
    (folder / "history.jsonl").write_text("what no table reads")
    sweep.fail(Cell("8b", "dense", "cl"))
    words = ["--root", str(root), "--to", str(page)]
    with pytest.raises(UserError, match=r"--keep b-cut: .* has no cells; --run b-cut makes them"):
        findings.main([*words, "--keep", "b-cut"])
    assert findings.main([*words, "--keep", "a-stand-ins"]) == 0
    archive = page.parent / "page" / "a-stand-ins.zip"
    written, kept = page.read_text(), archive.read_bytes()
    assert "4 of 5 cells that were asked for have a result" in written
    assert findings.main([*words, "--keep", "a-stand-ins"]) == 0 and archive.read_bytes() == kept
    with ZipFile(archive) as opened:
        assert not any("history" in name for name in opened.namelist())
    shutil.rmtree(root)
    assert findings.main(words) == 0 and page.read_text() == written
    archive.write_bytes(kept[:-30])
    with pytest.raises(UserError, match=r"a-stand-ins\.zip: .* give it again with --keep"):
        findings.main(words)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"more": 1}, "'more' is no part of a chapter"),
        ({"title": None, "commands": None}, "conf/chapter/a-stand-ins.yaml has the form"),
        ({"statements": {"one": {"title": "One"}}}, "'one': it has nothing beside its title"),
    ],
)
def test_a_file_that_is_no_chapter_is_named(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        chapter(tmp_path / "conf", **more)
    assert "sizes.yaml" in str(refused.value)


@pytest.mark.parametrize("told", chapters(), ids=lambda told: told.name)
def test_the_statements_of_a_chapter_are_of_cells_that_its_commands_make(told: Chapter) -> None:
    configuration.register()
    folder, asked = str(configuration.config_folder()), {}
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        for shown in told.shown(Path("outputs")):
            words = shlex.split(shown)
            assert words[:3] == ["python", "-m", "lion_sweep"]
            once = [w.split(",")[0] if w.startswith("seed=") else w for w in words[3:] if w != "-m"]
            for config in compose_cells(swept(once))[0]:
                made = plain(config)
                if not config.loss.needs_teacher:  # as results have it
                    made.pop("teacher")
                cell = Asked.of("proxy", cell_axes(config), made)
                asked[json.dumps(dict(cell.settings), sort_keys=True)] = cell
    keys = telling(asked.values(), [])
    cells = tuple(dict.fromkeys(place(one, keys) for one in asked.values()))
    axes = Axes("model", cells, {}, {})
    for statement in told.statements:
        for selection in selections(statement):
            settled = selection.settled(axes)
            assert any(map(settled.holds, cells)), f"{statement.name}: {selection}"
    if told.name in ("c-quirks", "d-teachers", "e-iso-sparsity"):
        for claim in (one for one in told.statements if isinstance(one, Compare)):
            better, than = (side.settled(axes) for side in (claim.better, claim.than))
            assert list(pairs(cells, better, than)), claim.name


def selections(statement: Statement) -> list[Selection]:
    """All that a statement says of cells."""
    if isinstance(statement, Compare):
        return [statement.better, statement.than]
    if isinstance(statement, Grows):
        return [one for one in (statement.where, statement.not_where) if one]
    assert isinstance(statement, Best)
    return [statement.cell]


def pairs(cells: Sequence[Cell], better: Selection, than: Selection) -> Iterator[tuple[Cell, Cell]]:
    """Cells of both that differ in what the selections name alone."""
    for one in filter(better.holds, cells):
        for other in filter(than.holds, cells):
            keys = [key for key, _ in (*one.more, *other.more)]
            apart = {k for k in (*AXES, *keys) if one[k] != other[k]}
            if apart <= better.values.keys():
                yield one, other
