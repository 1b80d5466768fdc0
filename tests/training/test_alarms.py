"""Seeded collapses, each caught by its alarm within a tenth of the budget; what they are told by.

Shapes: N texts, F some of them, L tokens, V vocabulary entries, D hidden dimensions.
"""

import itertools
import json
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from training_run import PADDING, Seen, as_rank, do, freeze, save_backbone, spread
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from lion_sweep.errors import Collapse, NotFinite
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.representations import Representations
from lion_sweep.machine.history import HISTORY, POINTS
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.training.alarms import ALARMS, due, judge
from lion_sweep.training.health import cosine, lookahead, of_terms, of_winners

MakeModel = Callable[..., LlamaForCausalLM]
pytestmark = pytest.mark.usefixtures("single_thread")
STEPS = 40
WORDS = [
    "alarms=standard",
    "loss=cl",
    "loss.batch_size=4",
    f"budget.steps={STEPS}",
    "recipe.adapt.steps=0",
    "recipe.embedding_rate=null",
    "recipe.checkpoint_every=100",
    "recipe.learning_rate=0.003",
    "recipe.warmup=0",
]
SPARSE = ["paradigm=sparse", "recipe.sparse.threshold=0", "recipe.sparse.flops_query=0.6"]
SPARSE += ["recipe.sparse.flops_passage=0.6"]
DENSE = ["paradigm=dense"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def collapsed(folder: Path, alarm: str) -> dict[str, Any]:
    """Train until the alarm goes off, within a tenth of the steps; what was measured then."""
    with pytest.raises(Collapse, match=rf"alarm {alarm}, limit") as caught:
        do(folder, Seen())
    assert f"alarms.{alarm}=null" in str(caught.value)
    (attempt,) = folder.glob("attempts/*.json")
    failure = json.loads(attempt.read_text())["failure"]
    assert failure["class"] == "collapse" and str(caught.value) in failure["message"]
    root = folder.parent.parent
    assert not list(root.glob("stages/train-*/done.json"))
    (partial,) = root.glob("stages/train-*partial")
    assert len(lines(partial / HISTORY)) <= STEPS // 10
    return lines(partial / POINTS)[-1]


def with_sink(make_model: MakeModel, folder: Path) -> Path:
    """A decoder whose tokenizer begins every text with a token that wins the same terms."""
    model, begin = make_model(3, is_causal=True), 90
    towards_D = torch.nn.functional.normalize(torch.randn(32), dim=0)
    with torch.no_grad():
        model.get_input_embeddings().weight[begin] = 100 * towards_D
        model.get_output_embeddings().weight[::3] = 3 * towards_D
    save_backbone(model, folder)
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.post_processor = TemplateProcessing(
        single=f"w{begin} $A", special_tokens=[(f"w{begin}", begin)]
    )
    tokenizer.save(str(path))
    return folder


def test_a_sink(collection: Path, make_model: MakeModel, tmp_path: Path) -> None:
    backbone = with_sink(make_model, tmp_path / "backbone")
    words = [*WORDS, *SPARSE, "recipe.sparse.threshold=2", "recipe.lengths.query=6"]
    words += ["recipe.lengths.passage=8"]
    found = collapsed(freeze(tmp_path / "root", collection, backbone, words), "sink")
    assert found["sink"] > 0.6 and found["first_token"] >= found["sink"]
    assert found["always_on_passages"] > 20


def test_attention_that_turns_causal(
    collection: Path,
    backbones: dict[bool, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After loading, whose own probe finds nothing."""
    load = Backbone.load.__func__  # type: ignore[attr-defined]

    make = modeling_llama.create_causal_mask

    def causal(config: LlamaConfig, **more: Any) -> Any:
        config = copy(config)
        config.is_causal = True
        return make(config=config, **more)

    def loaded(kind: type[Backbone], *given: Any, **more: Any) -> Backbone:
        monkeypatch.setattr(modeling_llama, "create_causal_mask", make)
        backbone = load(kind, *given, **more)
        monkeypatch.setattr(modeling_llama, "create_causal_mask", causal)
        return backbone

    monkeypatch.setattr(Backbone, "load", classmethod(loaded))
    folder = freeze(tmp_path, collection, backbones[False], [*WORDS, *DENSE])
    assert collapsed(folder, "lookahead")["lookahead"] < 1e-6


def test_a_regulariser_a_hundred_times_too_strong(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    strong = ["recipe.sparse.flops_query=60", "recipe.sparse.flops_passage=60"]
    words = [*WORDS, *SPARSE, *strong]
    collapsed(freeze(tmp_path, collection, backbones[False], words), "regulariser")


@pytest.mark.parametrize(("temperature", "alarm"), [(1e-4, "sharp"), (5.0, "flat")])
def test_a_temperature(
    temperature: float,
    alarm: str,
    collection: Path,
    backbones: dict[bool, Path],
    tmp_path: Path,
) -> None:
    words = [*WORDS, *DENSE, f"paradigm.temperature={temperature}"]
    collapsed(freeze(tmp_path, collection, backbones[False], words), alarm)


def test_a_gradient_that_is_no_number(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is one, in the same step."""
    plain = Contrastive.__call__

    def loss(self: Contrastive, step: Representations) -> Tensor:
        nothing = 0 * step.query_BD.sum()
        return plain(self, step) + nothing.sqrt()  # 0, of an infinite slope

    monkeypatch.setattr(Contrastive, "__call__", loss)
    folder = freeze(tmp_path, collection, backbones[False], [*WORDS, *DENSE])
    with pytest.raises(NotFinite, match="The norm of the gradient is nan at step 0"):
        do(folder, Seen())


def test_weights_that_the_last_step_has_broken(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    """No loss comes after it."""
    words = [*WORDS, *DENSE, "budget.steps=1", "recipe.learning_rate=1e30"]
    with pytest.raises(NotFinite, match=r"Collapsed by step 1 of 1: 100% of the numbers"):
        do(freeze(tmp_path, collection, backbones[False], words), Seen())


def one_of_two(rank: int, ranks: int, port: int, folder: Path) -> None:
    try:
        as_rank(rank, ranks, port, folder)
    except Collapse as error:
        (folder / f"{rank}.txt").write_text(str(error))


def test_on_two_ranks(collection: Path, backbones: dict[bool, Path], tmp_path: Path) -> None:
    """Both end with the same words; nobody is left waiting."""
    words = [*WORDS, *DENSE, "paradigm.temperature=5", "site.devices=2"]
    folder = freeze(tmp_path, collection, backbones[False], words)
    spread(one_of_two, 2, folder)
    said = {(folder / f"{rank}.txt").read_text() for rank in range(2)}
    assert len(said) == 1 and "alarm flat" in said.pop()


@pytest.mark.parametrize("words", [SPARSE, DENSE], ids=["sparse", "dense"])
def test_healthy_cells_go_on_to_the_end(
    words: list[str], collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    folder = freeze(tmp_path, collection, backbones[False], [*WORDS, *words, "tracking.points=0"])
    do(folder, Seen())
    (done,) = tmp_path.glob("stages/train-*/done.json")
    points = lines(done.parent / POINTS)
    assert [row["step"] for row in points] == [1, 4, 10, 20, 30, 40]
    facts = json.loads(done.read_text())["facts"]
    assert facts["evaluated"]["useful_flops"] > 0 and facts["spent"] == facts["planned"]


def test_no_alarm_goes_on_regardless(
    collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    flat = [*WORDS, *DENSE, "paradigm.temperature=5", "budget.steps=3"]
    do(freeze(tmp_path / "one", collection, backbones[False], [*flat, "alarms.flat=null"]), Seen())
    none = [*flat[1:], "alarms=none", "tracking.points=0"]
    do(freeze(tmp_path / "none", collection, backbones[False], none), Seen())
    assert not list(tmp_path.glob(f"none/stages/train-*/{POINTS}"))


def test_alarms_against_their_limits() -> None:
    limits = dict.fromkeys(ALARMS, 0.5)
    healthy = {"not_finite": 0.5, "spread": 0.5, "lookahead": 0.5, "cosine_queries": 0.5}
    judge(healthy, limits, 100, 100)  # neither more nor less
    nan = float("nan")
    for measured, alarm in (
        ({"not_finite": 0.6, "lookahead": 0.0}, "not_finite"),  # which explains the other
        ({"lookahead": 0.4}, "lookahead"),
        ({"empty_queries": 0.1, "empty_passages": 0.6}, "empty"),
        ({"sink": 0.6, "cosine_passages": 0.9}, "sink"),
        ({"regulariser": 0.6}, "regulariser"),
        ({"cosine_queries": 0.6, "cosine_passages": 0.1}, "cosine"),
        ({"spread": 0.4}, "flat"),
        ({"spread": 0.6}, "sharp"),
    ):
        with pytest.raises(ALARMS[alarm].error, match=f"alarm {alarm}, limit 0.5"):
            judge(healthy | measured, limits, 10, 100)
        judge(healthy | measured, {}, 10, 100)
        if not ALARMS[alarm].early:
            judge(healthy | measured, limits, 9, 100)
    judge({"spread": nan, "lookahead": nan, "cosine_queries": nan}, limits, 10, 100)
    assert due(1000) == {20, 100, 250, 500, 750, 1000} and due(22) == {1, 2, 6, 11, 17, 22}
    assert due(1) == {1}


def test_numbers_against_plain_sums() -> None:
    rng = np.random.default_rng(0)
    value_NV = rng.normal(size=(6, 40)) * (rng.random((6, 40)) < 0.4)
    value_NV[:, :3], value_NV[4] = 1.0, 0.0
    unit = [row / max(np.linalg.norm(row), 1e-300) for row in value_NV]
    pairs = [float(a @ b) for a, b in itertools.permutations(unit, 2)]
    vectors_NV = torch.from_numpy(value_NV).float()
    assert float(cosine(vectors_NV)) == pytest.approx(np.mean(pairs), rel=1e-6)
    assert float(cosine(vectors_NV[:1])) == pytest.approx(0, abs=1e-12)
    found = of_terms(vectors_NV)
    counts = [np.count_nonzero(row) for row in value_NV]
    assert float(found["L0"]) == pytest.approx(np.mean(counts))
    assert float(found["empty"]) == pytest.approx(1 / 6)
    assert int(found["always_on"]) == 0  # a text lacks them
    assert int(of_terms(vectors_NV[:4])["always_on"]) >= 3
    full_NV, few = value_NV[:4], [0, 2]
    winner_FV = rng.integers(0, 3, (2, 40))
    always = [v for v in range(40) if all(full_NV[:, v] != 0)]
    terms = [(f, v) for f in range(2) for v in range(40) if full_NV[few[f], v] != 0]
    first = [(f, v) for f, v in terms if winner_FV[f, v] == 0]
    shares = of_winners(torch.from_numpy(winner_FV), vectors_NV[:4], few)
    assert float(shares["first_token"]) == pytest.approx(len(first) / len(terms))
    expected = sum(v in always for _, v in first) / len(terms)
    assert float(shares["sink"]) == pytest.approx(expected)


@torch.no_grad()
def test_winners_and_what_sees_ahead(make_model: MakeModel) -> None:
    model = make_model(5)
    backbone = Backbone(model)
    texts = [np.array(text, np.int32) for text in ([5, 17, 3, 42, 61], [9, 8, 96])]
    mask_NL = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])  # padded on the left
    ids_NL = torch.full((2, 5), PADDING)
    ids_NL[0], ids_NL[1, 2:] = torch.tensor(texts[0]), torch.tensor(texts[1])
    winner_NV = SparseEncoder(backbone, 0.0).winners(ids_NL, mask_NL)
    for row, text in enumerate(texts):
        alone_1L = torch.tensor(text)[None].long()
        logits_LV = model(alone_1L, attention_mask=torch.ones_like(alone_1L)).logits[0]
        assert torch.equal(winner_NV[row].long(), logits_LV.argmax(dim=0))
    moved = []
    for text in texts:
        other = text.copy()
        half = len(text) // 2
        other[half:] = (other[half:] + 1) % 97
        before, after = (
            backbone.hidden_states(torch.tensor(one)[None].long(), torch.ones(1, len(one)).long())
            for one in (text, other)
        )
        ways = [(after - before)[0, p].norm() / before[0, p].norm() for p in range(half)]
        moved.append(float(max(ways)))
    cpu = torch.device("cpu")
    assert float(lookahead(backbone, texts, cpu)) == pytest.approx(np.mean(moved), rel=1e-4)
    model.config.is_causal = True
    assert float(lookahead(backbone, texts, cpu)) < 1e-6 < 1e-2 < np.mean(moved)
