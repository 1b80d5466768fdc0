"""LaTeX of a report: balanced, as wide as it says, and compiled where there is a LaTeX."""

import re
import subprocess
from pathlib import Path

import pytest
from debian import install
from report_cells import grid
from report_results import OWN, SETS, Sweep

from lion_sweep.report.axes import Cell
from lion_sweep.report.collect import collect, unfinished
from lion_sweep.report.exports import escape, latex
from lion_sweep.report.sections import Choices, sections
from lion_sweep.report.statements import read_statements, study
from lion_sweep.report.tables import overviews

DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\begin{document}
\input{scaling}
\end{document}
"""
# A cell's name, and all that it may hold.
EVIL = '50% of_{a} #1 & $x^2$ ~ \\end{table} <b>|" é 中 \u200b'


def written(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("lion_sweep.report.significance.PERMUTATIONS", 99)
    monkeypatch.setattr("lion_sweep.report.significance.SAMPLES", 99)
    sweep = Sweep(root, "full", (OWN, *SETS))
    cells = grid(model=["1b", "3b"])
    for cell in cells[1:]:
        sweep.write(cell)
        sweep.write(cell, 43, lacking=["scifact"])
    sweep.fail(cells[0], outcome="failed", failure={"class": "code", "message": EVIL})
    more = (("recipe.lora.name", EVIL),)
    sweep.write(Cell("1b", "dense", "kd", more))
    choices = Choices(statements=read_statements(study()))
    parts = sections(collect(root), unfinished(root), choices=choices)
    return latex(parts, overviews(parts))


def columns(line: str) -> int:
    return len(re.findall(r"(?<!\\)&", line)) + 1


def test_every_row_has_the_columns_of_its_table_and_all_that_opens_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = written(tmp_path, monkeypatch)
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    opened: list[str] = []
    for what, name in re.findall(r"(?<!\\)\\(begin|end)\{(\w+)\}", text):
        if what == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    tables = re.findall(r"\\begin\{tabular\}\{(l+r*)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) > 20
    for spec, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1 and {columns(row) for row in rows} == {len(spec)}
        rules = [line for line in body.splitlines() if not line.endswith(r"\\")]
        assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert "中" not in text and "[U+4E2D][U+200B]" not in text and "[U+4E2D]" in text


def test_it_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := install("pdflatex", "texlive-latex-recommended", "lmodern"):
        pytest.skip(reason)
    (tmp_path / "scaling.tex").write_text(written(tmp_path, monkeypatch), encoding="utf-8")
    (tmp_path / "all.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-3000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    assert "Overfull \\hbox" not in log


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\nb  c", "a b c"),
        ("<|>", r"\textless{}\textbar{}\textgreater{}"),
        ("≈ † ‡ ↑ ↓ — ±", r"$\approx$ \dag{} \ddag{} $\uparrow$ $\downarrow$ --- $\pm$"),
        ("é ü ß ž", "é ü ß ž"),
        ("λ\x00", "[U+03BB][U+0000]"),
    ],
)
def test_characters(text: str, wanted: str) -> None:
    assert escape(text) == wanted
