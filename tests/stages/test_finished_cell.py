"""A finished cell as teacher and as source of negatives, against its own vectors in float64.

Shapes: Q queries, N passages, D dimensions or vocabulary, R rows that steps draw, G = 1 +
negatives, P training pairs, M candidates of a pair.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse
from stage_contents import done
from training_run import Corpus

from lion_sweep.cell import work
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.prepare import Prepare
from lion_sweep.cell.tasks import ADAPT, CELL, NEGATIVES, PREPARE, TEACHER, tasks_of
from lion_sweep.config import Config, Precision
from lion_sweep.config.site import SiteName
from lion_sweep.cost.meter import Spending
from lion_sweep.data import drawn as parts_of_steps
from lion_sweep.data.groups import MISSING, Groups
from lion_sweep.errors import Interrupted, UserError
from lion_sweep.grid import COMPLETE, Session
from lion_sweep.machine import interruption
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.search.parts import Stored
from lion_sweep.stages import filtered
from lion_sweep.stages import groups as stage_of_groups
from lion_sweep.stages.encode import VECTORS
from lion_sweep.stages.finished_cell import Finished
from lion_sweep.stages.finished_weights import FinishedWeights
from lion_sweep.stages.groups import GROUPS
from lion_sweep.stages.named_cells import settled_cells
from lion_sweep.stages.teacher import SCORES
from lion_sweep.stages.validation import validate
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]
Make = Callable[..., Cell]
DENSE, SPARSE = "1b-dense-cl", "1b-sparse-cl"
DEPTH = 9
GIVEN = ["data.groups=groups.jsonl", "loss=cl"]  # of the cells that are there


@pytest.fixture
def make(small_cell: SmallCell, inputs: tuple[Path, Path], tmp_path: Path) -> Make:
    """A short cell on the corpus."""
    collection, decoder = inputs

    def made(*words: str) -> Cell:
        own = {word.split("=")[0] for word in words}
        defaults = [
            "data=beir", "data.name=tiny", f"data.path={collection}", f"model.backbone={decoder}",
            "budget=steps", "budget.steps=3", "recipe.precision=fp32", "recipe.adapt.steps=0",
            "tracking.points=0", "recipe.lengths.query=4", "recipe.lengths.passage=6",
            "evaluation.query_length=5", "evaluation.passage_length=7", "recipe.learning_rate=1e-2",
            "recipe.embedding_rate=1e-2", "paradigm=dense", "recipe.sparse.threshold=0",
            f"paths.root={tmp_path / 'out'}", f"recipe.negative_depth={DEPTH}", "loss.batch_size=4",
            "loss.negatives=2",
        ]  # fmt: skip
        return small_cell(*(word for word in defaults if word.split("=")[0] not in own), *words)

    return made


@pytest.fixture
def root(once: Callable[..., Path], make: Make, tmp_path: Path) -> Path:
    """The outputs of two finished cells, a dense one and adapters of a sparse one, to change."""

    def both(folder: Path) -> None:
        adapters = ["paradigm=sparse", "recipe.lora.rank=4", "recipe.embedding_rate=null"]
        for words in (["paradigm=dense"], adapters):
            done(make(*GIVEN, *words, f"paths.root={folder}"))

    return Path(shutil.copytree(once("finished", both), tmp_path / "out"))


def workshop(cell: Cell) -> Workshop:
    """Where the stages of a cell are done."""
    how = Execution.of(cell.config, SiteName.laptop)
    return Workshop(Path(cell.config.paths.root), Progress("cell", None), how)


def plain_scores(root: Path, name: str, cell: Cell) -> NDArray[np.float64]:
    """What the finished cell's losses would read of all queries and passages, [Q, N].

    Each text is encoded alone.
    """
    weights = FinishedWeights.named(name, root)
    source, _ = cell.stages.sets["tiny"]
    shop = workshop(cell)
    encoder = weights.load(shop)
    encoder.backbone.eval()
    both = []
    for cut in weights.tokens(source, shop, "plain"):
        tokens = cut.read(shop)
        rows = [torch.tensor(tokens.text(row, cut.length))[None] for row in range(len(tokens))]
        with torch.no_grad():
            vectors = [encoder(ids_1L.long(), torch.ones_like(ids_1L))[0] for ids_1L in rows]
        both.append(torch.stack(vectors).double().numpy())
    query_QD, passage_ND = both
    # Its own evaluation has the same ones.
    found = Stored(weights.cell.stage("encode passages tiny") / VECTORS).all()
    own_ND = found.toarray() if sparse.issparse(found) else found
    np.testing.assert_allclose(passage_ND, own_ND, rtol=1e-4, atol=1e-5)
    scores: NDArray[np.float64] = query_QD @ passage_ND.T
    return scores / weights.cell.config.paradigm.temperature


@pytest.mark.parametrize("teacher", [DENSE, SPARSE])
def test_it_teaches_the_scores_that_its_losses_read(
    make: Make, root: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the rounding of fp32; every text once, in several parts, at the cost that was planned."""
    monkeypatch.setattr(parts_of_steps, "FIRST", 8)
    words = ["data.groups=groups.jsonl", "loss=kd", "teacher=cell"]
    cell = make(*words, f"teacher.scorers.cell.cell={teacher}")
    teach, shop = cell.stages.teacher, workshop(cell)
    assert teach is not None
    facts = shop.run(teach).facts
    step = teach.course.draws.sampler(shop).first(facts["steps"])
    expected_RG = plain_scores(root, teacher, cell)[step.query_B[:, None], step.passage_BG]
    found_RG = np.load(shop.folder(teach) / SCORES)
    np.testing.assert_allclose(found_RG, expected_RG, rtol=1e-4, atol=1e-4)
    paid = teach.paid(shop, 3)
    assert len(paid) > 2  # parts
    texts = sum(len(stage.lengths(shop)) for stage in paid.values())  # type: ignore[attr-defined]
    assert texts == len(np.unique(step.query_B)) + len(np.unique(step.passage_BG))
    planned = sum((stage.planned(shop) for stage in paid.values()), Spending())
    assert facts["planned"] == facts["spent"] == planned.as_dict()
    assert facts["spent"]["tokens"] > 0


def plain_groups(score_QN: NDArray[np.float64], corpus: Corpus) -> dict[int, list[int]]:
    """By query, the first hits without its positive; equal scores by id."""
    found = {}
    for query, row_N in enumerate(score_QN.astype(np.float32)):
        names = sorted(range(len(row_N)), key=lambda n: (-row_N[n], f"d{n}"))
        hits = [n for n in names[:DEPTH] if row_N[n] > 0 or score_QN.min() < 0]
        found[query] = [n for n in hits if n != query]
    return found


@pytest.mark.parametrize("miner", [DENSE, SPARSE])
def test_it_mines_its_first_hits_and_goes_on_after_every_batch(
    make: Make, root: Path, corpus: Corpus, miner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = make(f"negatives.cell={miner}", "loss=cl")
    stage, shop = cell.stages.groups, workshop(cell)
    whole = shop.run(stage)
    groups, score_QN = Groups.load(whole.folder / GROUPS), plain_scores(root, miner, cell)
    expected = plain_groups(score_QN, corpus)
    assert len(groups) == len(corpus.queries) and expected[0]
    for pair, (query, positive) in enumerate(zip(groups.query_P, groups.positive_P, strict=True)):
        assert query == positive
        assert groups.positive_score_P[pair] == pytest.approx(score_QN[query, query], rel=1e-4)
        row_M = groups.negative_PM[pair]
        assert row_M[row_M != MISSING].tolist() == expected[query]
        scores = groups.negative_score_PM[pair, : len(expected[query])]
        np.testing.assert_allclose(scores, score_QN[query, expected[query]], rtol=1e-4)
    assert whole.facts["planned"] == whole.facts["spent"]
    # Vectors of its own collection are those that it was scored by: nothing was encoded again.
    folder = Finished.read(miner, root).result["stages"]["encode passages tiny"]["folder"]
    assert folder in whole.facts["parts"]

    kept = {path.name: path.read_bytes() for path in (whole.folder / GROUPS).iterdir()}
    shutil.rmtree(whole.folder)
    again = workshop(cell)
    monkeypatch.setattr(stage_of_groups, "AT_ONCE", 3)
    for one in stage.inputs:
        again.run(one)
    stops = SimpleNamespace(requested=lambda: True, stop=interruption.stop)
    monkeypatch.setattr(stage_of_groups, "interruption", stops)
    for _ in range(3):
        with pytest.raises(Interrupted):
            again.run(stage)
    parted = again.run(stage)
    assert parted.facts == whole.facts
    for name, held in kept.items():
        assert (parted.folder / GROUPS / name).read_bytes() == held


def test_the_teacher_says_which_candidates_are_dropped(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a BM25 cell's candidates by another cell's scores; what is left trains."""
    monkeypatch.setattr(filtered, "PAIRS", 3)
    words = ["loss=cl", f"negatives.cell={SPARSE}", "teacher=cell"]
    words += [f"teacher.scorers.cell.cell={DENSE}", "teacher.scorers.cell.weight=2"]
    before, cell = make(*words), make(*words, "negatives.margin=1.5")
    assert before.stages.train != cell.stages.train
    shop = workshop(cell)
    groups = Groups.load(shop.folder(before.stages.groups) / GROUPS)
    left_done = shop.run(cell.stages.groups)
    left = Groups.load(left_done.folder / GROUPS)
    score_QN = 2 * plain_scores(root, DENSE, cell)
    expected, dropped = {}, 0
    for query, positive, row_M in zip(
        groups.query_P, groups.positive_P, groups.negative_PM, strict=True
    ):
        there = [n for n in row_M.tolist() if n != MISSING]
        kept = [n for n in there if score_QN[query, n] <= score_QN[query, positive] - 1.5]
        dropped += len(there) - len(kept)
        if kept:
            expected[int(query)] = kept
    found = {
        int(query): row_M[row_M != MISSING].tolist()
        for query, row_M in zip(left.query_P, left.negative_PM, strict=True)
    }
    assert found == expected and len(expected) > 0 and dropped > 0
    facts = left_done.facts
    assert facts["false_negatives"] == dropped and facts["pairs"] == len(expected)
    assert facts["without_negatives"] == len(groups) - len(expected)
    # Mining and scoring are both in the ledger.
    assert facts["planned"] == facts["spent"]
    assert facts["spent"]["tokens"] > shop.run(before.stages.groups).facts["spent"]["tokens"]
    # Scores that are there cost nothing, and what was left out before is told too.
    own = workshop(make("loss=cl", "teacher=bm25", "negatives.margin=0"))
    free = own.run(make("loss=cl", "teacher=bm25", "negatives.margin=0").stages.groups).facts
    mined = own.run(make("loss=cl", "teacher=bm25").stages.groups).facts
    assert free["pairs"] + free["without_negatives"] == mined["pairs"] + mined["without_negatives"]
    assert "spent" not in free and free["missing_positives"] == 0
    none = make(*words, "negatives.margin=1e9")
    with pytest.raises(UserError, match=r"negatives\.margin=1e\+09 drops all \d+ candidates of"):
        shop.run(none.stages.groups)


def test_candidates_are_drawn_by_the_teachers_scores(make: Make, root: Path) -> None:
    """Its best ones, or one of each part of its ranking; their own scores go with them."""
    words = ["loss=cl", "loss.negatives=2", f"negatives.cell={SPARSE}", "teacher=cell"]
    words += [f"teacher.scorers.cell.cell={DENSE}", "teacher.scorers.cell.weight=2"]
    plain = make(*words, "loss.sampling=top")
    ranked = make(*words, "loss.sampling=top", "negatives.ranked_by=teacher")
    shop = workshop(ranked)
    groups = Groups.load(shop.folder(plain.stages.groups) / GROUPS)
    ordered = Groups.load(shop.folder(ranked.stages.groups) / GROUPS)
    assert ranked.stages.groups.ranked and not plain.stages.groups.ranked
    score_QN = plain_scores(root, DENSE, ranked)
    best = {}
    for pair, (query, before_M, after_M) in enumerate(
        zip(groups.query_P, groups.negative_PM, ordered.negative_PM, strict=True)
    ):
        there = before_M[before_M != MISSING].tolist()
        expected = sorted(there, key=lambda passage: -score_QN[query, passage])
        assert after_M[after_M != MISSING].tolist() == expected
        own = dict(zip(there, groups.negative_score_PM[pair].tolist(), strict=False))
        assert [own[p] for p in expected] == ordered.negative_score_PM[pair][: len(there)].tolist()
        best[int(query)] = (expected * 2)[:2]
    step = ranked.stages.train.course.draws.sampler(shop).step(0)
    for query, passage_G in zip(step.query_B.tolist(), step.passage_BG.tolist(), strict=True):
        assert passage_G[1:] == best[query]
    both = make(*words, "loss.sampling=top", "negatives.ranked_by=teacher", "negatives.margin=1.5")
    dropping = make(*words, "loss.sampling=top", "negatives.margin=1.5")
    kept, left = (
        Groups.load(shop.folder(cell.stages.groups) / GROUPS) for cell in (both, dropping)
    )
    assert kept.query_P.tolist() == left.query_P.tolist()
    assert [sorted(row) for row in kept.negative_PM.tolist()] == [
        sorted(row) for row in left.negative_PM.tolist()
    ]
    with pytest.raises(UserError, match=r"set loss\.sampling=top or stratified"):
        validate(make(*words, "negatives.ranked_by=teacher").config)


def test_cells_are_known_by_what_trained_them(make: Make, root: Path, tmp_path: Path) -> None:
    """Not by name nor place; another cell is another teacher, and another miner."""
    elsewhere = Path(shutil.copytree(root / "cells", tmp_path / "other" / "cells")).parent
    shutil.copytree(root / "stages", elsewhere / "stages")
    dense, other = Finished.read(DENSE, root), Finished.read(SPARSE, root)
    mined = ["loss=cl", "negatives.cell="]
    taught = ["data.groups=groups.jsonl", "loss=kd", "teacher=cell", "teacher.scorers.cell.cell="]
    for *words, key in (mined, taught):
        names = [DENSE, str(dense.folder), str(elsewhere / "cells" / dense.name)]
        known = {make(*words, f"{key}{name}").id for name in names}
        assert len(known) == 1
        assert make(*words, f"{key}{other.name}").id not in known
    gone = elsewhere / "stages" / dense.result["stages"]["train"]["folder"]
    shutil.rmtree(gone)
    with pytest.raises(UserError, match=f"its weights are gone from {gone}: give the command"):
        make(*taught[:3], f"{taught[3]}{elsewhere / 'cells' / dense.name}")


def test_each_precision_has_its_own_products(make: Make) -> None:
    """Of a cell and of another one that teaches it, in turns in one process."""
    how, one_11 = workshop(make(*GIVEN)).execution, torch.ones(1, 1)
    other = how.at(Precision.bf16)
    assert how.at(Precision.fp32) is how
    for execution, dtype in 2 * [(how, torch.float32), (other, torch.bfloat16)]:
        accelerator = execution.accelerator
        with accelerator.autocast():
            assert (one_11 @ one_11).dtype == dtype
    with how.accelerator.autocast():
        assert (one_11 @ one_11).dtype == torch.float32


def test_a_grid_with_a_student_and_a_mined_cell(
    make: Make, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From checks and plan to results; names by axes become ids, and costs stand in the ledger."""
    dense, other = (Finished.read(name, root).name for name in (DENSE, SPARSE))
    student = ["data.groups=groups.jsonl", "loss=kd", "teacher=cell"]
    student += [f"teacher.scorers.cell.cell={SPARSE}", "paradigm.teacher_scale=1"]
    mined = ["loss=cl", f"negatives.cell={DENSE}"]
    configs = [make(*words).config for words in (student, mined)]
    session = Session(lambda settled, site: None)
    assert session.run(configs, [None, None]) == COMPLETE, capsys.readouterr().out
    there = [path for path in root.glob("cells/*") if path.name not in (dense, other)]
    new = {(result := Finished.read(path).result)["axes"]["loss"]: result for path in there}
    assert new["kd"]["teacher"]["scorers"]["cell"]["cell"] == other
    assert new["cl"]["config"]["negatives"]["cell"] == dense
    for ledger in (new["kd"]["ledger"]["teacher"], new["cl"]["ledger"]["negatives"]):
        assert ledger["planned"] == ledger["spent"] and ledger["spent"]["useful_flops"] > 0
    assert new["cl"]["groups"]["pairs"] == 8 and "spent" not in new["cl"]["groups"]
    assert "negatives" not in new["kd"]["ledger"] and "teacher" not in new["cl"]["ledger"]
    assert all(0 < result["scores"]["tiny"]["nDCG@10"] <= 1 for result in new.values())


def test_on_a_cluster_they_are_a_job_that_others_wait_for(make: Make, root: Path) -> None:
    """What needs no GPU is prepared before, and encodes nothing."""
    words = ["loss=kd", "teacher=cell", f"teacher.scorers.cell.cell={SPARSE}"]
    cell = make(*words, f"negatives.cell={DENSE}", "negatives.margin=-9")
    tasks = tasks_of([cell], Prepare.of([cell.stages]))
    assert [task.kind for task in tasks] == [PREPARE, ADAPT, NEGATIVES, TEACHER, CELL]
    prepared, adapted, mined, taught = (task.name for task in tasks[:-1])
    assert [task.needs for task in tasks[2:]] == [
        (prepared,),
        (prepared, mined),
        (prepared, adapted, mined, taught),
    ]
    for task in tasks:
        task.freeze()
    before = len(list(root.glob("stages/encode-*.lock")))
    work.do(tasks[0], SiteName.laptop)
    assert len(list(root.glob("stages/encode-*.lock"))) == before
    assert not workshop(cell).finished(cell.stages.groups)
    work.do(tasks[2], SiteName.laptop)
    assert workshop(cell).finished(cell.stages.groups)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["negatives.cell=x", "data.groups=groups.jsonl"],
            r"data\.groups=groups\.jsonl brings the negatives, so that negatives\.cell=x finds",
        ),
        (["negatives.margin=nan"], r"negatives\.margin=nan is a distance of scores"),
        (
            ["negatives.cell=8b-dense-cl"],
            r"negatives\.cell=8b-dense-cl: 8b-dense-cl is not the folder of a cell with a result, "
            r"nor the id or the name of a finished one in .*, which has "
            r"1b-dense-cl-\w+, 1b-sparse-cl-\w+\.",
        ),
        (
            [f"negatives.cell={DENSE}-begun"],
            r"-begun is not the folder of a cell with a result: the command that began",
        ),
        (
            ["loss=kd", "teacher=cell", "teacher.scorers.cell.cell=twice"],
            r"teacher\.scorers\.cell\.cell=twice: 2 finished cells .* id, twice-1, twice-2\.",
        ),
    ],
)
def test_what_is_refused_before_any_work(
    compose_cell: Callable[..., Config], root: Path, words: list[str], said: str
) -> None:
    (root / "cells" / f"{DENSE}-begun").mkdir()
    folder = Finished.read(DENSE, root).folder
    if "twice" in words[-1]:
        for number in (1, 2):
            shutil.copytree(folder, root / "cells" / f"twice-{number}")
    own = [] if "data.groups" in words[-1] else ["data.groups=null"]
    config = compose_cell("data=beir", "data.path=x", f"paths.root={root}", *own, *words)
    with pytest.raises(UserError, match=said):
        validate(config)
        settled_cells(config)
