"""The page in a real browser: what it shows is in the files, and a reader can work with it."""

import csv
import json
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from browser import Opened, launch, missing, opened
from playwright.sync_api import Browser, sync_playwright
from report_cells import grid
from report_grids import Grid

from lion_sweep.report.__main__ import main
from lion_sweep.report.axes import Cell

SIZES = ("1b", "3b")
SWEPT = "recipe.weight_decay"
NASTY = "</script><img/src=x/onerror=alert(1)>&amp;"
TABLE, EVERY = ".scaling table", ".every table"


@pytest.fixture(scope="session")
def browser(once: Any) -> Iterator[Browser]:
    reasons: list[str] = []
    once("chromium", lambda _: reasons.append(missing()))
    if reason := missing() if not reasons else reasons[0]:
        pytest.skip(reason)
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture(scope="session")
def demo(once: Any) -> Path:
    """Eight cells of one seed on one collection."""

    def make(root: Path) -> None:
        grid_of = Grid(root)
        for cell in grid(model=SIZES, loss=("cl", "clkd")):
            grid_of.finished(cell)
        assert main(["--root", str(root)]) == 0

    return once("page_demo", make)


@pytest.fixture(scope="session")
def holes(once: Any) -> Path:
    """Two seeds, a swept key, three collections, a failed cell, one not begun, nasty texts."""

    def make(root: Path) -> None:
        sets = {"pydoc": (12, 50, None), "fiqa": (10, 40, "beir"), "nq": (8, 30, "beir")}
        grid_of = Grid(root, sets)
        for cell in grid(model=SIZES, paradigm=("sparse",), loss=("cl",)):
            for decay in ("0.1", "0.2"):
                for seed in (0, 1):
                    if (cell.model, decay, seed) != ("3b", "0.2", 1):
                        grid_of.finished(_with(cell, decay), seed)
        grid_of.begun(Cell("1b", "dense", "cl", ((SWEPT, "0.1"),)), "failed", NASTY, seed=0)
        _poison(root)
        words = ["model=1b,3b", "paradigm=sparse,dense", "loss=cl"]
        assert main(["--root", str(root), "--grid", *words]) == 3

    return once("page_holes", make)


def _with(cell: Cell, decay: str) -> Cell:
    return Cell(cell.model, cell.paradigm, cell.loss, ((SWEPT, decay),))


def _poison(root: Path) -> None:
    """Texts that would run where a page takes them for markup."""
    for folder in (root / "cells").iterdir():
        for path in [*folder.glob("per_query/*.json"), *folder.glob("runs/*.trec")]:
            path.write_text(path.read_text().replace('"q3"', f'"{NASTY}"').replace("q3 ", f"{NASTY} "))
        config = folder / "config.yaml"
        config.write_text(config.read_text().replace("title: CL", f"title: {json.dumps(NASTY)}"))
        if (result := folder / "result.json").is_file():
            record = json.loads(result.read_text())
            record["config"]["loss"]["title"] = NASTY
            record["device"]["name"] = NASTY
            result.write_text(json.dumps(record))


def page_of(root: Path) -> Path:
    return root / "reports" / "scaling" / "index.html"


def results(root: Path) -> dict[str, dict[str, Any]]:
    found = (json.loads(path.read_text()) for path in root.glob("cells/*/result.json"))
    return {record["id"]: record for record in found}


def ids_of(demo: Path) -> dict[str, str]:
    """The id of each cell of one seed, by what tables call it."""
    titles = {"cl": "CL", "kd": "KD", "clkd": "CL+KD"}
    return {
        f"{r['axes']['paradigm']} {titles[r['axes']['loss']]} {r['axes']['model']}": name
        for name, r in results(demo).items()
    }


@pytest.mark.parametrize("which", ["demo", "holes"])
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_nothing_leaves_the_page_and_nothing_goes_wrong(
    browser: Browser, request: pytest.FixtureRequest, which: str, width: int, scheme: Any
) -> None:
    file = page_of(request.getfixturevalue(which))
    size = {"width": width, "height": 900}
    with opened(browser, file, viewport=size, color_scheme=scheme) as found:
        found.drawn()
        assert found.requests == [file.as_uri()]
        assert found.said == []
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        for number in range(found.page.locator("nav[aria-label=Collections] a").count()):
            found.page.locator("nav[aria-label=Collections] a").nth(number).click()
            found.drawn()
        assert found.said == []


def test_the_scaling_table_is_that_of_the_result_files(browser: Browser, demo: Path) -> None:
    told, ids = results(demo), ids_of(demo)
    [section] = json.loads((page_of(demo).parent / "scaling.json").read_text())
    ends = {s["system"]: (s["ci_low"], s["ci_high"]) for s in section["significance"]["systems"]}
    with opened(browser, page_of(demo)) as found:
        names = found.column(TABLE, "System")
        assert len(names) == 4
        for model in SIZES:
            for name, text in zip(names, found.column(TABLE, model), strict=True):
                cell = f"{name} {model}"
                score = told[ids[cell]]["scores"]["pydoc"]["nDCG@10"]
                low, high = ends[cell]
                assert re.sub(r"[≈▲▼\s]+", " ", text) == f"{score:.4f} [{low:.4f}, {high:.4f}]"
        low, high = ends["BM25"]
        mean = next(iter(told.values()))["bm25"]["pydoc"]["nDCG@10"]
        bm25 = found.page.inner_text(f"{TABLE} tfoot td")
        assert bm25.startswith(f"{mean:.4f} [{low:.4f}, {high:.4f}]")


def test_marks_are_those_of_the_tests(browser: Browser, demo: Path) -> None:
    folder = page_of(demo).parent
    pairs = list(csv.DictReader((folder / "significance.csv").open()))
    told, ids = results(demo), ids_of(demo)
    scores = {name: told[one]["scores"]["pydoc"]["nDCG@10"] for name, one in ids.items()}
    best = max(scores, key=scores.__getitem__)
    clear = {
        frozenset((p["system_a"], p["system_b"])) for p in pairs if float(p["p_holm"]) <= 0.05
    }
    bm25 = next(iter(told.values()))["bm25"]["pydoc"]["nDCG@10"]
    with opened(browser, page_of(demo)) as found:
        names = found.column(TABLE, "System")
        for model in SIZES:
            for name, text in zip(names, found.column(TABLE, model), strict=True):
                cell = f"{name} {model}"
                differs = frozenset((cell, "BM25")) in clear
                assert ("▲" in text, "▼" in text) == (
                    differs and scores[cell] > bm25, differs and scores[cell] < bm25
                )  # fmt: skip
                tied = cell != best and frozenset((cell, best)) not in clear
                assert ("≈" in text) == tied
        assert found.texts(f"{TABLE} td.best a") == [f"{scores[best]:.4f}"]


def test_the_list_of_cells_has_every_cost_of_the_result_files(browser: Browser, demo: Path) -> None:
    told, ids = results(demo), ids_of(demo)
    with opened(browser, page_of(demo)) as found:
        names = found.column(EVERY, "Cell")
        assert sorted(names) == sorted(ids)
        records = [told[ids[name]] for name in names]
        for measure in ("nDCG@10", "MRR@10", "Recall@100"):
            wanted = [f"{record['scores']['pydoc'][measure]:.4f}" for record in records]
            assert found.column(EVERY, measure) == wanted
        efficiency = [record["efficiency"]["pydoc"] for record in records]
        mebibytes = [f"{one['index_bytes'] / 2**20:.4f} MiB" for one in efficiency]
        assert found.column(EVERY, "Index bytes") == mebibytes
        l0 = [f"{one['L0_documents']:.0f}" if "L0_documents" in one else "—" for one in efficiency]
        assert found.column(EVERY, "L0 passages") == l0
        entropy = [f"{record['entropy']['pydoc']:.2f}" for record in records]
        assert found.column(EVERY, "Entropy (nats)") == entropy
        latency = [_half_up(1000 * one["search_seconds"] / 40) for one in efficiency]
        assert found.column(EVERY, "Search ms/query") == latency
        # What is the same everywhere stands once.
        same = found.page.inner_text(".constant")
        assert "FLOPs spent 1.8e+12" in same and "Seeds 42" in same


def _half_up(number: float) -> str:
    """Two decimals, as JavaScript has them of a number halfway."""
    return str(Decimal(str(number)).quantize(Decimal("0.01"), ROUND_HALF_UP))


def test_every_column_sorts_both_ways_and_holes_come_last(browser: Browser, holes: Path) -> None:
    with opened(browser, page_of(holes)) as found:
        for table in (TABLE, EVERY):
            for button in found.page.locator(f"{table} thead button").all():
                for turn in range(2):
                    button.click()
                    head = button.locator("..")
                    way = head.get_attribute("aria-sort")
                    title = str(button.evaluate("(element) => element.textContent"))
                    told = found.column(table, title)
                    rows = [text.split("\n")[0].split(" ")[0] for text in told]
                    known = [float(text) for text in rows if re.fullmatch(r"-?\d+\.\d+", text)]
                    down = way == "descending"
                    assert known == sorted(known, reverse=down), (title, turn)
                    if known:  # those without a number are below
                        gone = [not re.fullmatch(r"-?\d+\.\d+", text) for text in rows]
                        assert gone == sorted(gone), title
                assert {h.get_attribute("aria-sort") for h in found.page.locator(f"{table} th").all()} <= {
                    "none", "ascending", "descending", None
                }  # fmt: skip


def test_chips_filter_tables_and_charts(browser: Browser, demo: Path) -> None:
    with opened(browser, page_of(demo)) as found:
        chip = found.page.locator(".chip[data-axis=paradigm][data-value=dense]")
        chip.click()
        assert chip.get_attribute("aria-pressed") == "false"
        assert found.column(TABLE, "System") == ["sparse CL", "sparse CL+KD"]
        assert len(found.column(EVERY, "Cell")) == 4
        found.drawn()
        points = ".figures figure:first-child .mark-symbol.role-mark path"
        assert found.page.locator(points).count() == 4
        found.page.locator(".chip[data-axis=model][data-value='3b']").press("Space")
        assert found.texts(f"{TABLE} thead th") == ["System", "1b"]
        chip.click()
        assert len(found.column(EVERY, "Cell")) == 4


def test_the_measure_can_be_chosen(browser: Browser, demo: Path) -> None:
    told, ids = results(demo), ids_of(demo)
    with opened(browser, page_of(demo)) as found:
        found.page.get_by_label("Measure").select_option("MRR@10")
        names = found.column(TABLE, "System")
        wanted = [f"{told[ids[f'{n} 1b']]['scores']['pydoc']['MRR@10']:.4f}" for n in names]
        assert found.column(TABLE, "1b") == wanted
        assert "Intervals and tests are of nDCG@10" in found.page.inner_text(".legend")


def test_a_cell_opens_has_an_address_and_back_returns(browser: Browser, demo: Path) -> None:
    ids = ids_of(demo)
    one = ids["sparse CL 3b"]
    with opened(browser, page_of(demo)) as found:
        page = found.page
        page.locator(f"{EVERY} a", has_text="sparse CL 3b").click()
        assert page.url.endswith(f"#cell={one}")
        assert page.inner_text("#cell h2") == "sparse CL 3b, seed 42"
        assert not page.locator("#tables").is_visible()
        page.go_back()
        assert page.locator("#tables").is_visible() and not page.locator("#cell").is_visible()
        link = page.locator(f"{TABLE} tbody a").first
        link.focus()
        page.keyboard.press("Enter")  # no mouse
        page.wait_for_selector("#cell h2")
        assert page.evaluate("document.activeElement.tagName") == "H2"
    with opened(browser, page_of(demo), f"#cell={one}") as found:
        assert found.page.inner_text("#cell h2") == "sparse CL 3b, seed 42"
        for name in ("result.json", "config.yaml", "log.txt"):
            link = found.page.locator("#cell a", has_text=name).first
            path = str(link.evaluate("(element) => decodeURIComponent(new URL(element.href).pathname)"))
            assert Path(path).is_file()
    with opened(browser, page_of(demo), "#cell=nothing") as found:
        assert "There is no cell nothing" in found.page.inner_text("#tables")


def test_a_cell_tells_what_its_files_do(browser: Browser, demo: Path) -> None:
    one = ids_of(demo)["sparse CL+KD 1b"]
    record, folder = results(demo)[one], demo / "cells" / one
    with opened(browser, page_of(demo), f"#cell={one}") as found:
        found.drawn()
        scores = found.texts("#cell table >> nth=0 >> td")
        wanted = record["scores"]["pydoc"], record["bm25"]["pydoc"]
        assert [scores[row * 6 + 1] for row in range(3)] == [f"{v:.4f}" for v in wanted[0].values()]
        assert [scores[row * 6 + 5] for row in range(3)] == [f"{v:.4f}" for v in wanted[1].values()]
        assert scores[2:5] == [f"{record['untrained']['pydoc']['nDCG@10']:.4f}", "+0.1000", "0.00010"]
        text = found.page.inner_text("#cell")
        assert "train\t60\t120,000\t1.8e+12\t2.34e+12" in text
        assert "loss.name\tclkd" in text
        values = json.loads((folder / "per_query" / "pydoc.json").read_text())["nDCG@10"]
        words = json.loads((folder / "per_query" / "pydoc.bm25.json").read_text())["nDCG@10"]
        queries = found.texts("#cell .query")
        order = sorted(values, key=lambda q: (values[q], values[q] - words[q], q))
        hits = [line.split() for line in (folder / "runs" / "pydoc.trec").read_text().splitlines()]
        for query, told in zip(order[:5], queries[:5], strict=True):
            assert told.startswith(f"{query} {values[query]:.4f} (BM25 {words[query]:.4f})")
            first = [(hit[2], float(hit[4])) for hit in hits if hit[0] == query][:3]
            for hit, score in first:
                assert f"{hit} {_precise(score)}" in told


def _precise(number: float) -> str:
    """Four significant digits, as JavaScript's toPrecision(4) has them."""
    return f"{number:#.4g}"


def test_commands_can_be_copied(browser: Browser, demo: Path) -> None:
    one = ids_of(demo)["dense CL 1b"]
    rights = ["clipboard-read", "clipboard-write"]
    with opened(browser, page_of(demo), f"#cell={one}", permissions=rights) as found:
        blocks = found.page.locator(".command").all()
        assert len(blocks) == 3
        for block in blocks:
            block.locator("button").click()
            block.get_by_text("Copied").wait_for()
            copied = found.page.evaluate("navigator.clipboard.readText()")
            assert copied == block.locator("pre").inner_text()
        said = [block.locator("pre").inner_text() for block in blocks]
        assert said[0].startswith("python -m lion_sweep model=1b paradigm=dense loss=cl")
        assert said[1].startswith(f"python -m lion_sweep.evaluate checkpoint={one}")
        assert said[2].startswith(f"python -m lion_sweep.export {one}")


def test_a_page_that_has_no_clipboard_copies_too(browser: Browser, demo: Path) -> None:
    one = ids_of(demo)["dense CL 1b"]
    with opened(browser, page_of(demo), f"#cell={one}") as found:
        found.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        found.page.evaluate(
            "document.addEventListener('copy', () => { window.taken = getSelection().toString()"
            " || document.activeElement.value; })"
        )
        found.page.locator(".command button").first.click()
        found.page.get_by_text("Copied").wait_for()
        assert found.page.evaluate("window.taken").startswith("python -m lion_sweep model=1b")


def test_queries_won_and_lost_between_two_cells(browser: Browser, demo: Path) -> None:
    ids = ids_of(demo)
    a, b = "dense CL 1b", "sparse CL+KD 3b"
    told = [
        json.loads((demo / "cells" / ids[name] / "per_query" / "pydoc.json").read_text())["nDCG@10"]
        for name in (a, b)
    ]
    gaps = {query: told[0][query] - told[1][query] for query in told[0]}
    won, lost = sum(gap > 0 for gap in gaps.values()), sum(gap < 0 for gap in gaps.values())
    with opened(browser, page_of(demo)) as found:
        found.page.get_by_label("A", exact=True).select_option(a)
        found.page.get_by_label("B", exact=True).select_option(b)
        assert found.page.inner_text(".wins .summary") == (
            f"{a} is higher on {won}, equal on {40 - won - lost} and lower on {lost} of 40 queries "
            f"than {b}; mean difference {fmean(gaps.values()):+.4f}."
        )
        first = max(gaps, key=lambda query: (gaps[query], query))
        shown = found.texts(".wins .query")
        assert f"{max(gaps.values()):+.4f}" in shown[0]
        assert gaps[shown[0].split()[0]] == gaps[first]


def test_training_curves_are_those_of_the_history(browser: Browser, demo: Path) -> None:
    with opened(browser, page_of(demo)) as found:
        found.drawn()
        figure = found.page.locator("figure", has=found.page.get_by_text("Training", exact=True))
        assert figure.locator(".mark-line.role-mark path").count() == 8
        figure.get_by_label("Of").select_option("points:entropy")
        figure.get_by_label("over").select_option("useful_flops")
        found.page.wait_for_function(
            "() => [...document.querySelectorAll('.role-axis-title text')]"
            ".some((e) => e.textContent === 'entropy')"
        )


def test_holes_seeds_and_collections_are_told(browser: Browser, holes: Path) -> None:
    told = results(holes)
    with opened(browser, page_of(holes)) as found:
        assert "3b" in found.page.inner_text(".holes") and "not begun" in found.page.inner_text(".holes")
        assert f"failed (attempt 1, out of memory): {NASTY}" in found.page.inner_text(".holes")
        tabs = found.page.locator("nav[aria-label=Collections] a")
        assert tabs.all_inner_texts() == ["fiqa", "nq", "pydoc"]
        tabs.nth(2).click()
        assert found.page.url.endswith("#section=2")
        scores = [
            record["scores"]["pydoc"]["nDCG@10"]
            for record in told.values()
            if record["axes"]["model"] == "1b" and record["config"]["recipe"]["weight_decay"] == 0.1
        ]
        assert len(scores) == 2
        [cell] = [text for text in found.column(TABLE, "1b") if text.startswith(f"{fmean(scores):.4f}")]
        spread = abs(scores[0] - scores[1]) / 2**0.5
        assert f"± {spread:.4f} (n=2)" in cell


def test_texts_of_results_never_become_markup(browser: Browser, holes: Path) -> None:
    with opened(browser, page_of(holes)) as found:
        found.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        found.drawn()
        assert NASTY in found.page.inner_text(TABLE)
        found.page.locator(f"{EVERY} a").first.click()
        found.page.wait_for_selector("#cell .query")
        assert NASTY in found.page.inner_text("#cell")
        assert found.page.locator("img").count() == 0
        assert found.said == []


def test_light_dark_and_print(browser: Browser, demo: Path) -> None:
    def colours(found: Opened) -> list[str]:
        found.drawn()
        body = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        label = "getComputedStyle(document.querySelector('.role-axis-label text')).fill"
        return [body, found.page.evaluate(label)]

    with opened(browser, page_of(demo), color_scheme="light") as found:
        light = colours(found)
    with opened(browser, page_of(demo), color_scheme="dark") as found:
        dark = colours(found)
        assert found.page.locator("#chapters details[open]").count() == 0
        printed = found.page.pdf()
        assert printed.startswith(b"%PDF") and printed.count(b"/Type /Page") > 3
        # Folded tables are printed too, on white, and without what only a screen has.
        assert found.page.locator("#chapters details:not([open])").count() == 0
        found.page.emulate_media(media="print")
        assert colours(found) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
        assert not found.page.locator(".chip").first.is_visible()
    assert light == ["rgb(255, 255, 255)", "rgb(28, 30, 33)"]
    assert dark == ["rgb(22, 24, 27)", "rgb(230, 232, 234)"]


def test_tables_sort_by_keyboard_and_the_first_column_stays(browser: Browser, demo: Path) -> None:
    size = {"width": 400, "height": 800}
    with opened(browser, page_of(demo), viewport=size) as found:
        page = found.page
        button = page.locator(f"{EVERY} thead button").nth(4)
        button.focus()
        page.keyboard.press("Enter")
        assert button.locator("..").get_attribute("aria-sort") == "descending"
        page.keyboard.press("Space")
        assert button.locator("..").get_attribute("aria-sort") == "ascending"
        name = page.locator(f"{EVERY} tbody th").first
        before = name.bounding_box()
        page.locator(".every .wide").evaluate("(element) => element.scrollBy(300, 0)")
        after = name.bounding_box()
        assert before and after and before["x"] == after["x"]


def test_without_scripts_all_tables_are_there(browser: Browser, demo: Path) -> None:
    with opened(browser, page_of(demo), java_script_enabled=False) as found:
        assert found.page.locator("#chapters table").count() >= 5
        assert "PROXY" in found.page.inner_text(".label >> nth=0")
