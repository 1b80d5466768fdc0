"""Cells of the page in a real browser: their own pages, commands, curves, query by query."""

import json
from pathlib import Path
from statistics import fmean

from browser import opened
from playwright.sync_api import Browser
from report_grids import ids_of, page_of, results

TABLE, EVERY = ".scaling table", ".every table"


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
            path = str(
                link.evaluate("(element) => decodeURIComponent(new URL(element.href).pathname)")
            )
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
        assert scores[2:5] == [
            f"{record['untrained']['pydoc']['nDCG@10']:.4f}",
            "+0.1000",
            "0.00010",
        ]
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
