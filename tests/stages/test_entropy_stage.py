"""Contrastive entropy of cells and checkpoints: the stage, and what results hold of it."""

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.core.global_hydra import GlobalHydra
from scipy import sparse
from stage_contents import done
from support import Made, source
from torch import Tensor

from lion_sweep import evaluate
from lion_sweep.cell.cell import Cell
from lion_sweep.config import Config, Precision
from lion_sweep.config.site import SiteName
from lion_sweep.data.collection import Judged
from lion_sweep.data.pool import pool
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.ragged import Ragged
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.multi_vector import MultiVectorEncoder
from lion_sweep.search.parts import Stored
from lion_sweep.stages import engine
from lion_sweep.stages.base import beside
from lion_sweep.stages.entropy import Entropy, Scoring
from lion_sweep.stages.texts import Tokenise
from lion_sweep.stages.workshop import Workshop

SmallCell = Callable[..., Cell]
Compose = Callable[..., Config]
STRANGER = Path(__file__).parents[1] / "stranger"
SHORT = ["loss=cl", "budget=steps", "budget.steps=3", "recipe.precision=fp32"]
# d3 is no passage, q2 has two relevant ones, q3 has none that is there, d1 is also a query.
QRELS = {"q1": {"d4": 1}, "q2": {"d0": 2, "d2": 1, "d5": 0}, "q3": {"gone": 1}, "d1": {"d7": 1}}
DOCUMENTS, ASKED = [f"d{n}" for n in (0, 1, 2, 4, 5, 6, 7, 8)], list(QRELS)
TEMPERATURE = 0.5


@dataclass(frozen=True)
class Loaded:
    """Weights that are loaded already."""

    identity: str
    encoder: Any = beside(None)
    source: str = ""

    def load(self, shop: Workshop) -> Any:
        assert self.encoder is not None, "an inner product needs no weights"
        return self.encoder


def stage(shop: Workshop, queries: Any, passages: Any, encoder: Any = None) -> Entropy:
    """Of vectors that are there already."""
    texts = dict.fromkeys(DOCUMENTS, ""), dict.fromkeys(ASKED, "")
    held = source(*texts, test=QRELS)
    tokens = Tokenise(held.documents, Pretrained("", None, ""), 1, title="tokens").cut(1)
    made = []
    for what, vectors in (("passages", passages), ("queries", queries)):
        weights, how = Loaded(what, encoder=encoder), (sparse.issparse(vectors), None)
        one = Made(weights, tokens, None, *how, Precision.fp32, title=what, made=vectors)
        folder = shop.root / "stages" / one.name
        engine.run(folder, one.specification, lambda partial, one=one: one.work(shop, partial))
        made.append(one)
    return Entropy(held.judged["test"], *made, Scoring(TEMPERATURE, encoder is not None))


@pytest.fixture
def shop(compose_cell: Compose, tmp_path: Path) -> Workshop:
    """Where the stages are."""
    how = Execution.of(compose_cell("site.devices=1"), SiteName.laptop)
    return Workshop(tmp_path, Progress("cell", None), how)


def plain(
    score_QN: Tensor, judged: Judged, ids: tuple[list[str], list[str]], temperature: float
) -> dict[str, float]:
    """By query id, of scores of all queries (in the order of their ids) and passages."""
    (asked, documents), drawn = ids, pool(judged, score_QN.shape[1])
    found, rows = {}, dict(zip(judged.asked, judged.asked_rows.tolist(), strict=True))
    for query, grades in judged.qrels.items():
        row_N = score_QN[asked.index(query)] / temperature
        relevant = [documents.index(d) for d, g in grades.items() if g > 0 and d in documents]
        if not relevant:
            continue
        place = drawn.query_Q.tolist().index(rows[query])
        others = [n for n in drawn.candidate_QC[place].tolist() if documents[n] != query]
        scores = [torch.cat([row_N[[n]], row_N[others]]) for n in relevant]
        found[query] = float(torch.stack([-F.log_softmax(s, dim=0)[0] for s in scores]).mean())
    return found


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_of_one_vector_per_text(shop: Workshop, kind: str) -> None:
    torch.manual_seed(0)
    query_QD, passage_ND = torch.randn(len(ASKED), 6), torch.randn(len(DOCUMENTS), 6)
    vectors: list[Any] = [query_QD.numpy(), passage_ND.numpy()]
    if kind == "sparse":
        vectors = [sparse.csr_matrix(one) for one in vectors]
    found = stage(shop, *vectors)
    expected = plain(
        query_QD @ passage_ND.T, found.judged.read(shop), (ASKED, DOCUMENTS), TEMPERATURE
    )
    assert expected.keys() == {"q1", "q2", "d1"}
    assert found.values(shop)["entropy"] == pytest.approx(expected, rel=1e-5)
    assert found.mean(shop) == pytest.approx(np.mean(list(expected.values())), rel=1e-5)
    assert shop.run(found).facts["queries"] == 3 and shop.run(found).facts["candidates"] == 6


def test_of_texts_with_two_vectors(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, make_model: Callable[..., Any]
) -> None:
    """A paradigm of somebody else's: the best of four pairs is its score."""
    monkeypatch.syspath_prepend(str(STRANGER))
    encoder = importlib.import_module("toys.two").TwoVectors(Backbone(make_model()))
    torch.manual_seed(1)
    query_QX, passage_NX = torch.randn(len(ASKED), 2, 6), torch.randn(len(DOCUMENTS), 2, 6)
    found = stage(shop, query_QX.numpy(), passage_NX.numpy(), encoder)
    score_QN = torch.einsum("qid,njd->qnij", query_QX, passage_NX).amax(dim=(2, 3))
    expected = plain(score_QN, found.judged.read(shop), (ASKED, DOCUMENTS), TEMPERATURE)
    assert found.values(shop)["entropy"] == pytest.approx(expected, rel=1e-5)


def test_of_texts_with_a_vector_per_token(shop: Workshop, backbone: Backbone) -> None:
    """MaxSim, of texts that differ in their numbers of vectors."""
    encoder, random = MultiVectorEncoder(backbone, 6, 0), np.random.default_rng(2)
    made = []
    for texts in (len(ASKED), len(DOCUMENTS)):
        count = random.integers(1, 5, texts)
        vectors_TP = random.normal(size=(count.sum(), 6)).astype(np.float32)
        vectors_TP /= np.linalg.norm(vectors_TP, axis=1, keepdims=True)
        made.append(Ragged.of(vectors_TP, count))
    found = stage(shop, *made, encoder)
    query_TT = torch.from_numpy(made[0].vectors_TP @ made[1].vectors_TP.T)
    score_QN = torch.stack([
        torch.stack([part.amax(dim=1).sum() for part in rows.split(made[1].count_M.tolist(), 1)])
        for rows in query_TT.split(made[0].count_M.tolist())
    ])  # fmt: skip
    expected = plain(score_QN, found.judged.read(shop), (ASKED, DOCUMENTS), TEMPERATURE)
    assert found.values(shop)["entropy"] == pytest.approx(expected, rel=1e-5)


def test_where_no_query_has_a_relevant_passage_there_is_none(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "QRELS", {"q1": {"gone": 1}})
    made = np.ones((len(DOCUMENTS), 2), np.float32)
    found = stage(shop, made[: len(ASKED)], made)
    assert found.mean(shop) is None and found.values(shop) == {"entropy": {}}


def test_what_is_no_number_has_no_mean(shop: Workshop) -> None:
    made = np.full((len(DOCUMENTS), 2), np.nan, np.float32)
    assert stage(shop, made[: len(ASKED)], made).mean(shop) is None


@pytest.mark.parametrize("paradigm", ["dense", "sparse"])
def test_of_a_cell_and_of_its_checkpoint(
    small_cell: SmallCell, small_beir: Path, tmp_path: Path, paradigm: str
) -> None:
    """Computed again from its vectors; the checkpoint finds the stage done."""
    cell = done(small_cell(f"paradigm={paradigm}", *SHORT, f"paths.root={tmp_path}"))
    result, (texts, split) = cell.read_result(), cell.stages.sets["twin"]
    shop = Workshop(tmp_path, Progress("cell", None))
    collection = texts.read(shop)
    ids, temperature = collection.judged[split].asked, cell.config.paradigm.temperature
    documents = collection.documents.ids
    for scored, means in (
        (cell.stages.trained["twin"], result["entropy"]),
        (cell.stages.untrained, result["untrained_entropy"]),
    ):
        both = [
            Stored(shop.place(one) / "vectors").all() for one in (scored.queries, scored.passages)
        ]
        query_QD, passage_ND = (
            torch.from_numpy(one.toarray() if sparse.issparse(one) else one) for one in both
        )
        score_QN = query_QD.double() @ passage_ND.double().T
        expected = plain(score_QN, collection.judged[split], (ids, documents), temperature)
        assert len(expected) == 40
        assert scored.entropy.values(shop)["entropy"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert means == {"twin": pytest.approx(np.mean(list(expected.values())), rel=1e-5)}
    stored = json.loads((cell.folder / "per_query" / "twin.entropy.json").read_text())
    assert stored == cell.stages.trained["twin"].entropy.values(shop)
    assert np.mean(list(stored["entropy"].values())) == pytest.approx(result["entropy"]["twin"])
    assert result["backbone"]["embeddings"] == 4096 * 64  # tied

    words = ["data=beir", "data.name=twin", f"data.path={small_beir}", f"paths.root={tmp_path}"]
    GlobalHydra.instance().clear()  # the command composes for itself
    checked = evaluate.evaluate(str(cell.folder), None, [*words, "tracking=none"])
    assert checked["entropy"] == result["entropy"] and checked["temperature"] == temperature


def test_its_temperature_and_its_rules_are_in_the_cell(
    small_cell: SmallCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = small_cell("paradigm=dense", *SHORT)
    monkeypatch.setattr(Entropy, "RULES", 99)
    after = small_cell("paradigm=dense", *SHORT)
    assert after.id != before.id
    one, other = (cell.stages.roles for cell in (before, after))
    assert {title for title in one if one[title] != other[title]} == {
        "entropy twin", "entropy untrained twin"
    }  # fmt: skip
    warmer = small_cell("paradigm=dense", *SHORT, "paradigm.temperature=2.0").stages
    assert warmer.untrained.score == before.stages.untrained.score
    assert warmer.untrained.entropy != before.stages.untrained.entropy


def test_cells_of_an_isoflop_grid_share_all_but_their_training(small_cell: SmallCell) -> None:
    """Texts, tokens and negatives are those of all sizes, adaptation that of a size."""
    cells = {
        (model, flops): small_cell(
            f"model=stand-in-{model}", "paradigm=dense", "loss=cl", f"budget.flops={flops}"
        )
        for model in ("64x1", "96x1")
        for flops in ("1e10", "2e10")
    }
    assert len({cell.id for cell in cells.values()}) == 4
    roles = next(iter(cells.values())).stages.roles
    several = {t: len({cell.stages.roles[t] for cell in cells.values()}) for t in roles}
    once = ("texts", "judgements", "tokenizer", "tokens", "negatives", "index")
    assert {several[title] for title, stage in roles.items() if stage.kind in once} == {1}
    assert several["score bm25 twin"] == 1
    assert several["backbone"] == several["adapt"] == several["entropy untrained twin"] == 2
    assert several["train"] == several["entropy twin"] == 4
