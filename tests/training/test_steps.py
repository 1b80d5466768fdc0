"""Whole training steps, from the words of a command to the weights, against a plain reference.

Every step reads all groups, so that its loss does not depend on their order.

Shapes: B queries, G passages of a query (its positive first), N texts, D dimensions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import plain_reference as plain
import pytest
import torch
from plain_reference import Dropout, Masks, Optimiser, Terms, Weights
from training_run import CUT, DEPTH, Corpus, Run, rates, same_change, shared_words, take_steps

from lion_sweep.machine.history import STEP_KEYS

pytestmark = pytest.mark.usefixtures("single_thread")
SEED, TEACHER_WEIGHT = 11, 0.5


@dataclass(frozen=True)
class Cell:
    """A cell as the reference reads it."""

    paradigm: str
    terms: dict[str, float]  # weights, by name
    optimiser: Optimiser
    batch_size: int = 8
    rank: int = 0  # of LoRA
    alpha: float = 12
    dropout: float = 0.0
    tied: bool = False
    own: bool = False  # the contrastive term compares a query's own passages alone
    normalize: str = "mean"
    threshold: float = 0.4
    temperature: float = 0.3
    teacher_scale: float = 1.7
    flops_query: float = 0.02
    flops_passage: float = 0.05
    ramp: float = 0.6
    cache: str = "never"  # gradients

    @property
    def scaling(self) -> float:
        """Of LoRA's product."""
        return self.alpha / self.rank if self.rank else 1.0

    def words(self, *more: str) -> list[str]:
        """The same for the command line."""
        optimiser, recipe = self.optimiser, f"recipe.{self.paradigm}"
        loss = "clkd" if len(self.terms) > 1 else "kd" if "margin_mse" in self.terms else "cl"
        words = [
            f"paradigm={self.paradigm}",
            f"loss={loss}",
            f"seed={SEED}",
            f"recipe.gradient_cache={self.cache}",
            f"loss.batch_size={self.batch_size}",
            *(f"loss.terms.{name}.weight={weight}" for name, weight in self.terms.items()),
            f"teacher.scorers.own.weight={TEACHER_WEIGHT}",
            f"budget.steps={optimiser.steps}",
            *rates("recipe", optimiser),
            *shared_words(optimiser, self.rank, self.alpha, self.dropout),
            f"{recipe}.temperature={self.temperature}",
            f"{recipe}.teacher_scale={self.teacher_scale}",
            "recipe.adapt.steps=1",  # or LoRA's B would be 0
            "recipe.adapt.chunk=4",
            "recipe.adapt.learning_rate=0.05",
        ]
        if self.own:
            words.append(f"loss.terms.contrastive.candidates={1 + DEPTH}")
        if self.paradigm == "dense":
            return [*words, f"{recipe}.normalize={self.normalize}", *more]
        sizes = {"threshold": self.threshold, "flops_query": self.flops_query}
        sizes |= {"flops_passage": self.flops_passage, "flops_ramp": self.ramp}
        return [*words, *(f"{recipe}.{name}={size}" for name, size in sizes.items()), *more]


BOTH = {"contrastive": 0.3, "listwise_kl": 0.9}
ALL, ADAPTERS = Optimiser(4, 0.004, 0.02), Optimiser(4, 0.02, None)
CELLS = {
    "dense": Cell("dense", BOTH, ALL),
    "dense-lora": Cell("dense", BOTH, ADAPTERS, rank=4, normalize="tokens", cache="always"),
    # Few entries are active, so that ranks exchange those alone.
    "sparse": Cell("sparse", BOTH, ALL, tied=True, cache="always", threshold=0.8),
    "sparse-lora": Cell("sparse", BOTH, ADAPTERS, rank=4),
    "kd": Cell("dense", {"margin_mse": 0.6}, replace(ALL, rows_rate=None), normalize="tokens"),
    "cl": Cell("sparse", {"contrastive": 0.7}, replace(ALL, clip=100.0), own=True),
}


def terms_of(
    cell: Cell, corpus: Corpus, masks: Callable[[], list[Masks]] | None = None
) -> Callable[[Weights, int], Terms]:
    """Weighted terms of a step over all groups; `masks` are those of all queries and passages."""
    groups = [(q, ps[: 1 + DEPTH], ss[: 1 + DEPTH]) for q, ps, ss in corpus.groups]
    read = [corpus.queries[query][: CUT["query"]] for query, _, _ in groups]
    read += [corpus.passages[p][: CUT["passage"]] for _, passages, _ in groups for p in passages]
    teacher_BG = cell.teacher_scale * TEACHER_WEIGHT * torch.tensor([ss for _, _, ss in groups])

    def terms(weights: Weights, step: int) -> Terms:
        vectors = []
        for states_LD in plain.hidden_states(read, weights, cell.scaling, masks and masks()):
            if cell.paradigm == "dense":
                vectors.append(plain.dense(states_LD, cell.normalize))
            else:
                vectors.append(plain.sparse(states_LD, weights, cell.threshold))
        query_BD = torch.stack(vectors[: len(groups)])
        passage_ND = torch.stack(vectors[len(groups) :])
        scores_BBG = (query_BD @ passage_ND.T / cell.temperature).unflatten(1, (len(groups), -1))
        own_BG = torch.stack([scores_BBG[row, row] for row in range(len(groups))])
        found: Terms = {}
        for name, weight in cell.terms.items():
            if name == "contrastive":
                value = plain.contrastive(scores_BBG, cell.own)
            else:
                value = getattr(plain, name)(own_BG, teacher_BG.double())
            found[name] = weight * value
        if cell.paradigm == "sparse":
            rise = min(1.0, step / cell.optimiser.steps / cell.ramp) ** 2
            found["flops_query"] = rise * cell.flops_query * plain.flops(query_BD)
            found["flops_passage"] = rise * cell.flops_passage * plain.flops(passage_ND)
        return found

    return terms


def compare(run: Run, expected: Iterator[tuple[dict[str, float], Weights]], whole: bool) -> None:
    """Terms (of the whole step, where one rank saw it) and weights after every step."""
    seen, before, number = run.ranks[0], run.start, 0
    for number, (terms, weights) in enumerate(expected, start=1):
        logged, found = seen.logged[number - 1], seen.training[number - 1]
        told = {key: logged.pop(key) for key in STEP_KEYS if key in logged}
        assert told.keys() == set(STEP_KEYS) - {"memory_bytes"}
        assert told["step"] == number
        assert told["loss"] == pytest.approx(sum(logged.values()), rel=1e-6)
        assert logged.keys() == terms.keys()
        for name, term in terms.items():
            if whole or name.startswith("flops"):
                assert logged[name] == pytest.approx(term, rel=1e-4, abs=1e-7), name
        same_change(before, found, weights)
        before = before | found
    assert len(seen.logged) == len(seen.training) == number
    for name, weight in run.end.items():
        torch.testing.assert_close(weight, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("name", CELLS)
def test_steps_equal_the_reference(
    name: str, corpus: Corpus, collection: Path, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    cell = CELLS[name]
    words = cell.words("recipe.micro_batch_tokens=24")
    run = take_steps(tmp_path, collection, backbones[cell.tied], words)
    compare(run, plain.descend(run.start, cell.optimiser, terms_of(cell, corpus)), whole=True)


# A dense cell on two ranks is that of the dropout below.
@pytest.mark.parametrize(("name", "ranks"), [("dense-lora", 4), ("sparse", 2), ("sparse", 4)])
def test_ranks_take_the_steps_of_one(
    name: str,
    ranks: int,
    corpus: Corpus,
    collection: Path,
    backbones: dict[bool, Path],
    tmp_path: Path,
) -> None:
    cell = CELLS[name]
    words = cell.words("recipe.micro_batch_tokens=24", f"site.devices={ranks}")
    run = take_steps(tmp_path, collection, backbones[cell.tied], words, ranks)
    compare(run, plain.descend(run.start, cell.optimiser, terms_of(cell, corpus)), whole=False)
    for other in run.ranks[1:]:
        assert not other.logged  # the first one writes it down


@pytest.mark.parametrize(("cache", "ranks"), [("never", 1), ("always", 1), ("never", 2)])
def test_dropout_is_drawn_anew_in_every_step_on_every_rank(
    cache: str, ranks: int, backbones: dict[bool, Path], tmp_path: Path
) -> None:
    """One group for each rank, all of the same texts, so that every draw is known."""
    query, positive, negative = [5, 9], [7, 3, 61, 20], [33, 8, 15]
    groups = [(rank, [2 * rank, 2 * rank + 1], [2.0, -1.0]) for rank in range(ranks)]
    corpus = Corpus([query] * ranks, [positive, negative] * ranks, groups)
    optimiser = replace(ADAPTERS, rate=0.01)
    cell = Cell(
        "dense", BOTH, optimiser, batch_size=ranks, rank=4, alpha=8, dropout=0.3, cache=cache
    )
    words = cell.words("loss.negatives=1", f"site.devices={ranks}")
    collection = corpus.write(tmp_path / "collection")
    run = take_steps(tmp_path / "root", collection, backbones[False], words, ranks)
    drawn = [Dropout(SEED + rank, cell.dropout, run.start) for rank in range(ranks)]

    def masks() -> list[Masks]:
        # A micro-batch has its longest texts first; the reference reads queries, then passages.
        of_ranks = [dropout.of([positive, negative, query]) for dropout in drawn]
        return [m[2] for m in of_ranks] + [m[place] for m in of_ranks for place in (0, 1)]

    terms = terms_of(cell, corpus, masks)
    compare(run, plain.descend(run.start, optimiser, terms), whole=ranks == 1)
