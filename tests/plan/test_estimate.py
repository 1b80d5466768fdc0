"""Plans of texts that nobody has read yet, against plans of the same texts once they are read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import TINY

from lion_sweep.config import Config
from lion_sweep.config.site import SiteName
from lion_sweep.data import sampling
from lion_sweep.data.collection import write
from lion_sweep.errors import UserError
from lion_sweep.machine.site import settle
from lion_sweep.plan.planner import Planner
from lion_sweep.preflight import introduce

Compose = Callable[..., Config]
PASSAGES = 24_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passages of 5 to 60 words, longer ones towards the end; queries of their first three."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("large")
    words = np.array([f"word{number}" for number in range(2000)])
    length_N = rng.integers(5, 30, size=PASSAGES) + np.arange(PASSAGES) // 800

    def text(length: int) -> str:
        return " ".join(words[rng.integers(len(words), size=length)])

    passages = map(text, length_N)
    pairs = [(" ".join(passage.split()[:3]), passage) for passage in passages]
    write(folder, {"train": pairs[: PASSAGES - 50], "test": pairs[PASSAGES - 50 :]})
    return folder


def test_a_sample_tells_lengths_and_numbers(folder: Path) -> None:
    path = folder / "corpus.jsonl"
    texts, total = sampling.sample(path, "jsonl", 1000, 5)
    assert 4900 < len(texts) <= 5000
    assert total == pytest.approx(PASSAGES, rel=0.03)
    lines = path.read_text().splitlines()
    true = np.mean([len(line.split()) - 4 for line in lines])  # but {"_id": ... "title": ""
    assert np.mean([len(text.split()) for _, text in texts]) == pytest.approx(true, rel=0.05)
    assert sampling.sample(path, "jsonl", 1000, 5) == (texts, total)
    assert sampling.about(folder / "qrels" / "train.tsv") == PASSAGES - 50 + 1  # with its header


def test_a_sample_of_columns_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "corpus.tsv"
    rows = [f"title {n}\td{n}\ttext {n} {'x' * 60}\n" for n in range(30_000)]
    path.write_text("title\t_id\ttext\n" + "".join(rows))
    texts, total = sampling.sample(path, "tsv", 50, 2)
    assert total == pytest.approx(30_000, rel=0.02)
    assert all(text.startswith(f"title {key[1:]} text {key[1:]} ") for key, text in texts)
    path.write_text("title\t_id\ttext\n" + "".join(row.replace("\t", " ") for row in rows))
    with pytest.raises(UserError, match=r"corpus.tsv, after byte \d+:2 "):
        sampling.sample(path, "tsv", 50, 2)


@pytest.mark.parametrize("budget", [["budget.flops=3e11"], ["budget=epochs", "budget.epochs=0.01"]])
def test_an_estimate_is_near_the_plan_and_reads_nothing(
    compose_cell: Compose,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    budget: list[str],
) -> None:
    words = [*TINY, f"data.path={folder}", f"paths.root={tmp_path}", "site.login_mb=1"]
    words += ["paradigm=sparse", "budget.tolerance=null", "model=stand-in-128x1", *budget]
    config = settle(compose_cell(*words), SiteName.laptop)
    waiting = Planner(SiteName.laptop, waits=True)
    introduce(waiting, config)
    said = capsys.readouterr().out
    assert "to be read by a job of its own" in said and "estimated from 20,0" in said
    estimated = waiting.grid([config])
    assert not list(tmp_path.glob("stages/*"))
    assert "estimated from" in estimated.as_dict()["cells"][0]["estimate"]

    plan = Planner(SiteName.laptop).grid([config])
    (before,), (after,) = estimated.cells, plan.cells
    assert before.stages.train == after.stages.train
    # BM25's negatives are shorter than other passages.
    assert before.fit.spending.steps == pytest.approx(after.fit.spending.steps, rel=0.25)
    assert before.encoding.tokens == pytest.approx(after.encoding.tokens, rel=0.06)
    known = Planner(SiteName.laptop, waits=True)
    assert known.estimate(config) is not None  # BM25's rows are not there yet
    introduce(Planner(SiteName.laptop), config)
    assert Planner(SiteName.laptop, waits=True).estimate(config) is None
