"""recipe=lion's objective, on one rank and on four, against the released code's, written out.

There each of W GPUs encodes its texts of a micro-batch and computes, of what all have gathered,
the same cross-entropy and FLOPS penalties; their gradient goes back through its own vectors alone.
KL, MarginMSE, and the penalties of distillation alone, it computes of its own vectors. Gradients
are averaged over GPUs and micro-batches.

Shapes: B queries, G passages of a query (its positive first), I inputs, V vocabulary entries.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from commands import spread
from hydra import initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from lion_sweep import config as configuration
from lion_sweep.config.composing import compose
from lion_sweep.data.batches import Step
from lion_sweep.losses.representations import Representations
from lion_sweep.stages.validation import validate
from lion_sweep.training.loop import Supervision, read, share
from lion_sweep.training.parallel import average_gradients, gather

QUERIES, INPUTS, VOCABULARY, PROGRESS = 16, 5, 7, 0.05
LAMBDA_QUERY, LAMBDA_PASSAGE = 0.05, 0.04

MICRO_BATCHES = {"cl": 4, "clkd": 4, "kd": 2}  # of a step of 8b, by loss

Terms = dict[str, Tensor]
Key = tuple[str, int]  # a loss, and how many GPUs the recipe speaks of
Taken = tuple[dict[str, float], list[Tensor]]


@dataclass(frozen=True)
class Case:
    """An objective as a cell has it, and the negatives of a query."""

    supervision: Supervision
    negatives: int


@dataclass(frozen=True)
class Texts:
    """A step, as inputs of an encoder of one layer, which has the same weights everywhere."""

    query_BI: Tensor
    passage_BGI: Tensor
    teacher_BG: Tensor
    layer: nn.Linear

    @classmethod
    def of(cls, negatives: int) -> "Texts":
        torch.manual_seed(0)
        layer = nn.Linear(INPUTS, VOCABULARY).double()
        group = 1 + negatives
        shapes = (QUERIES, INPUTS), (QUERIES, group, INPUTS), (QUERIES, group)
        query, passage, teacher = (torch.randn(*s, dtype=torch.float64) for s in shapes)
        return cls(query, passage, teacher, layer)

    def encoded(self, rows: slice) -> tuple[Tensor, Tensor]:
        """[B, V] and [B, G, V] of some queries: log1p of a relu, as sparse vectors are."""
        return tuple(self.layer(x[rows]).relu().log1p() for x in (self.query_BI, self.passage_BGI))  # type: ignore[return-value]


def penalty(vectors: Tensor) -> Tensor:
    mean_V = vectors.reshape(-1, VOCABULARY).abs().mean(dim=0)
    return (mean_V * mean_V).sum()


def cross_entropy(query_BV: Tensor, passage_BGV: Tensor) -> Tensor:
    """Of every query's positive among all passages."""
    losses = []
    for row, query_V in enumerate(query_BV):
        scores_BG = passage_BGV @ query_V
        losses.append(scores_BG.flatten().logsumexp(dim=0) - scores_BG[row, 0])
    return torch.stack(losses).mean()


def distilled(form: str, query_BV: Tensor, passage_BGV: Tensor, teacher_BG: Tensor) -> Tensor:
    """KL over a query's own passages, or MarginMSE."""
    scores_BG = torch.stack([p @ q for q, p in zip(query_BV, passage_BGV, strict=True)])
    if form == "listwise_kl":
        log_teacher, log_student = teacher_BG.log_softmax(dim=1), scores_BG.log_softmax(dim=1)
        return (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1).mean()
    margins, wanted = (x[:, :1] - x[:, 1:] for x in (scores_BG, teacher_BG))
    return ((margins - wanted) ** 2).mean()


def of_one_gpu(loss: str, texts: Texts, gpu: int, own: list[slice], rise: float) -> Terms:
    """What one GPU computes of a micro-batch; `own` are the queries of each."""
    encoded = [texts.encoded(rows) for rows in own]
    mine_BV, passages_BGV = encoded[gpu]
    teacher_BG = texts.teacher_BG[own[gpu]]
    if loss == "kd":
        sides = (penalty(passages_BGV[:, 0]) + penalty(passages_BGV[:, 1:])) / 2
        return {
            "margin_mse": distilled("margin_mse", mine_BV, passages_BGV, teacher_BG),
            "flops_query": rise * LAMBDA_QUERY * penalty(mine_BV),
            "flops_passage": rise * LAMBDA_PASSAGE * sides,
        }
    # The others' vectors have come without a way back.
    kept = [[v if other == gpu else v.detach() for v in vs] for other, vs in enumerate(encoded)]
    query_BV, passage_BGV = (torch.cat(parts) for parts in zip(*kept, strict=True))
    half = 0.5 if loss == "clkd" else 1.0
    terms = {"contrastive": half * cross_entropy(query_BV, passage_BGV)}
    if loss == "clkd":
        terms["listwise_kl"] = half * distilled("listwise_kl", mine_BV, passages_BGV, teacher_BG)
    return terms | {
        "flops_query": rise * LAMBDA_QUERY * penalty(query_BV),
        "flops_passage": rise * LAMBDA_PASSAGE * penalty(passage_BGV),
    }


def released(
    loss: str, texts: Texts, gpus: int, micro_batches: int
) -> tuple[dict[str, float], list[Tensor]]:
    """Terms and gradients of a step, the means over GPUs and micro-batches."""
    count, rise = QUERIES // (gpus * micro_batches), min(1.0, 3 * micro_batches * PROGRESS) ** 2
    parts, values = gpus * micro_batches, dict[str, float]()
    gradients = [torch.zeros_like(p) for p in texts.layer.parameters()]
    for micro in range(micro_batches):
        first = [(micro * gpus + gpu) * count for gpu in range(gpus)]
        own = [slice(start, start + count) for start in first]
        for gpu in range(gpus):
            terms = of_one_gpu(loss, texts, gpu, own, rise)
            for name, term in terms.items():
                values[name] = values.get(name, 0.0) + term.item() / parts
            total = torch.stack(list(terms.values())).sum()
            found = torch.autograd.grad(total, list(texts.layer.parameters()))
            gradients = [g + one / parts for g, one in zip(gradients, found, strict=True)]
    return values, gradients


def step_of(case: Case, accelerator: Accelerator) -> tuple[dict[str, float], list[Tensor]]:
    """Values and gradients of our terms, on as many ranks as there are: their shares are others."""
    texts, supervision = Texts.of(case.negatives), case.supervision
    rows_B = np.arange(QUERIES)
    whole = Step(rows_B, np.zeros((QUERIES, 1 + case.negatives)), texts.teacher_BG.numpy())
    part = share(whole, accelerator)
    query_BD, passage_BGD = texts.encoded(slice(part.query_B[0], part.query_B[-1] + 1))
    passage_ND = passage_BGD.flatten(0, 1)
    step = Representations(
        query_BD=query_BD,
        passage_BGD=passage_BGD,
        all_query_QD=gather(query_BD, accelerator, sparse=True),
        candidate_CD=gather(passage_ND, accelerator, sparse=True),
        offset=accelerator.process_index * len(passage_ND),
        temperature=supervision.temperature,
        teacher_BG=torch.from_numpy(part.teacher_BG),
    )
    losses = {name: instantiate(term) for name, term in supervision.terms.items()}
    terms = {name: loss.weight * loss(step) for name, loss in losses.items()}
    terms |= instantiate(supervision.regulariser)(step, PROGRESS)
    accelerator.backward(torch.stack(list(terms.values())).sum())
    parameters = list(texts.layer.parameters())
    average_gradients(parameters, accelerator)
    values = dict(zip(terms, read(list(terms.values()), accelerator), strict=True))
    return values, [p.grad for p in parameters if p.grad is not None]


def take(rank: int, world: int, port: int, folder: str, cases: dict[Key, Case]) -> None:
    """Every case, as one of several ranks."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == world
    found = {key: step_of(case, accelerator) for key, case in cases.items()}
    if rank == 0:
        torch.save(found, Path(folder) / f"{world}.pt")


def composed(loss: str, gpus: int) -> Case:
    """As lion has it for 8b, but for numbers of texts: 4 micro-batches on 4 GPUs, in kd 2."""
    pool = QUERIES // (gpus * MICRO_BATCHES[loss]) if loss == "kd" else QUERIES // 4
    words = ["recipe=lion", "model=8b", "paradigm=sparse", f"loss={loss}"]
    words += [f"loss.batch_size={QUERIES}", f"recipe.sparse.flops_pool={pool}"]
    if loss != "kd":
        words += ["loss.negatives=2", f"recipe.candidates={3 * pool}"]
    if gpus == 1:  # which takes as many queries in a micro-batch as the four
        words += ["recipe.gathered_devices=1", "recipe.sparse.flops_devices=1"]
    configuration.register()
    with initialize_config_dir(str(configuration.config_folder()), version_base="1.3"):
        config = compose(words)
    validate(config)
    return Case(Supervision.of(config), config.loss.negatives)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[Key, Taken]]:
    """By ranks, what came of every case."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = {(loss, gpus): composed(loss, gpus) for loss in MICRO_BATCHES for gpus in (1, 4)}
    for ranks in (1, 4):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        spread(take, ranks, ranks, port, str(folder), cases)
    return {ranks: torch.load(folder / f"{ranks}.pt") for ranks in (1, 4)}


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("gpus", [1, 4])
@pytest.mark.parametrize("loss", MICRO_BATCHES)
def test_the_objective_is_the_released_one(
    taken: dict[int, dict[Key, Taken]], loss: str, gpus: int, ranks: int
) -> None:
    values, gradients = taken[ranks][loss, gpus]
    texts = Texts.of(1 if loss == "kd" else 2)
    expected, wanted = released(loss, texts, gpus, MICRO_BATCHES[loss])
    assert values == pytest.approx(expected, rel=1e-12)
    for found, one in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-10, atol=1e-14)


def test_four_gpus_make_a_quarter_of_the_contrastive_gradient_and_the_whole_of_the_kl() -> None:
    """(CE / 4 + KL) / 2 + penalties / 4 is what the released CL+KD recipe follows."""
    texts = Texts.of(2)
    alone = of_one_gpu("clkd", texts, 0, [slice(0, QUERIES)], (3 * PROGRESS) ** 2)
    parameters = list(texts.layer.parameters())
    scaled = torch.stack([t * (1 if n == "listwise_kl" else 1 / 4) for n, t in alone.items()])
    expected = torch.autograd.grad(scaled.sum(), parameters)
    _, found = released("clkd", texts, gpus=4, micro_batches=1)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)
