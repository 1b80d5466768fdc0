"""The page in a real browser: its tables and charts are the files', and a reader can use them."""

import csv
import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from browser import Opened, opened
from playwright.sync_api import Browser
from report_grids import NASTY, SIZED, ids_of, page_of, results

TABLE, EVERY = ".scaling table", ".every table"


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
        for model in SIZED:
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
    clear = {frozenset((p["system_a"], p["system_b"])) for p in pairs if float(p["p_holm"]) <= 0.05}
    bm25 = next(iter(told.values()))["bm25"]["pydoc"]["nDCG@10"]
    with opened(browser, page_of(demo)) as found:
        names = found.column(TABLE, "System")
        for model in SIZED:
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


def test_holes_seeds_and_collections_are_told(browser: Browser, holes: Path) -> None:
    told = results(holes)
    with opened(browser, page_of(holes)) as found:
        assert "3b" in found.page.inner_text(".holes") and "not begun" in found.page.inner_text(
            ".holes"
        )
        assert f"failed (attempt 1, out of memory): {NASTY}" in found.page.inner_text(".holes")
        tabs = found.page.locator("nav[aria-label=Collections] a")
        assert tabs.all_inner_texts() == ["fiqa", "nq", "pydoc"]
        # What the cells were trained on comes first.
        assert tabs.nth(2).get_attribute("aria-current") == "true"
        tabs.nth(0).click()
        assert found.page.inner_text("#tables h3 >> nth=0") == "proxy ladder, fiqa"
        tabs.nth(2).click()
        assert found.page.url.endswith("#section=2")
        scores = [
            record["scores"]["pydoc"]["nDCG@10"]
            for record in told.values()
            if record["axes"]["model"] == "1b" and record["config"]["recipe"]["weight_decay"] == 0.1
        ]
        assert len(scores) == 2
        [cell] = [
            text for text in found.column(TABLE, "1b") if text.startswith(f"{fmean(scores):.4f}")
        ]
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
