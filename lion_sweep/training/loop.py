"""The training loop.

Shapes: B queries of this rank's part of a step, G = 1 + negatives, N texts, D dimensions.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from lion_sweep.config import Config
from lion_sweep.config.classes import made
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.batches import Sampler, Step
from lion_sweep.data.tokens import Tokens
from lion_sweep.losses.representations import Representations
from lion_sweep.machine.history import HISTORY, Record
from lion_sweep.models.encoders import PASSAGES, QUERIES, Encoder
from lion_sweep.training.embedding import Embedding
from lion_sweep.training.optimisation import Optimisation, Run, Steps
from lion_sweep.training.parallel import gather, mean_over_ranks, over_ranks
from lion_sweep.training.watch import Watch


@dataclass(frozen=True)
class Supervision:
    """The objective: named loss terms over scores, and the regulariser of vectors."""

    sparse: bool  # vectors are over the vocabulary, 0 nearly everywhere
    temperature: float  # divides every score
    teacher_scale: float | None  # multiplies the teacher's; None where no term reads them
    terms: Mapping[str, Any]
    regulariser: Mapping[str, Any] | None

    @classmethod
    def of(cls, config: Config) -> "Supervision":
        paradigm, loss = config.paradigm, config.loss
        sparse, temperature = paradigm.made_by.over_vocabulary, paradigm.temperature
        scale = paradigm.teacher_scale if loss.needs_teacher else None
        return cls(sparse, temperature, scale, loss.active, paradigm.regularised)


@dataclass(frozen=True)
class TrainingData:
    """Everything a step reads, and what it is to learn from it."""

    sampler: Sampler
    queries: Tokens
    passages: Tokens
    lengths: tuple[int, int]  # tokens kept of a query and of a passage
    meter: Meter
    plan: Spending
    micro_batch_tokens: int  # padded ones, at most
    cached: bool  # gradients, see embedding.py
    supervision: Supervision


def represent(
    encoder: Encoder, step: Step, data: TrainingData, accelerator: Accelerator
) -> tuple[Representations, Embedding]:
    """What losses read of this rank's share of a step, and the embedding that it is made of."""
    supervision, (query_length, passage_length) = data.supervision, data.lengths
    texts = [data.queries.text(row, query_length) for row in step.query_B.tolist()]
    texts += [data.passages.text(row, passage_length) for row in step.passage_BG.ravel().tolist()]
    embedding = Embedding(encoder, texts, data.micro_batch_tokens, accelerator, cached=data.cached)
    (queries, group), sparse = step.passage_BG.shape, supervision.sparse
    query_BD = encoder.finished(embedding.vectors_ND[:queries], QUERIES)
    passage_ND = encoder.finished(embedding.vectors_ND[queries:], PASSAGES)
    teacher_BG, scale = None, supervision.teacher_scale
    if scale is not None:
        teacher_BG = torch.from_numpy(step.teacher_BG).to(accelerator.device) * scale
    representations = Representations(
        query_BD=query_BD,
        passage_BGD=passage_ND.unflatten(0, (queries, group)),
        all_query_QD=gather(query_BD, accelerator, sparse=sparse),
        candidate_CD=gather(passage_ND, accelerator, sparse=sparse),
        offset=accelerator.process_index * len(passage_ND),
        temperature=supervision.temperature,
        teacher_BG=teacher_BG,
        scores=encoder,
    )
    return representations, embedding


def share(step: Step, accelerator: Accelerator) -> Step:
    return step.split(accelerator.num_processes)[accelerator.process_index]


@dataclass
class Account:
    """What a training has come to so far; a checkpoint keeps it."""

    spent: Spending
    losses: list[float]
    evaluated: dict[str, float]  # what the points took, which no budget counts
    begun: float  # as if it had run without a break, and without points
    regulariser: dict[str, float]  # what it goes on from, where it keeps anything

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Account":
        """As a checkpoint says, or with nothing done."""
        begun = time.perf_counter() - facts.get("seconds", 0.0)
        spent, nothing = Spending(**facts.get("spent", {})), {"seconds": 0.0, "useful_flops": 0}
        lists = facts.get("loss", []), facts.get("evaluated", nothing)
        return cls(spent, *lists, begun, facts.get("regulariser", {}))

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begun

    def add_point(self, seconds: float, cost: Spending) -> None:
        self.evaluated["seconds"] += seconds
        self.evaluated["useful_flops"] += cost.useful_flops
        self.begun += seconds

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        own = {"loss": self.losses, "evaluated": self.evaluated, "seconds": self.seconds}
        own |= {"regulariser": self.regulariser}
        return {"spent": self.spent.as_dict()} | own


def read(values: list[Tensor], accelerator: Accelerator) -> list[float]:
    """Numbers on a device, which is waited for once; their means over the ranks."""
    found = torch.stack([value.detach().double() for value in values]).tolist()
    return [mean_over_ranks(value, accelerator) for value in found]


def train(
    encoder: Encoder, data: TrainingData, optimisation: Optimisation, seed: int, run: Run
) -> dict[str, Any]:
    """Train for `data.plan.steps` steps; what was spent, the losses. May raise `Interrupted`.

    Every step is written to `history.jsonl` in the run's folder, and points to `points.jsonl`.
    May also raise `NotFinite`, and `Collapse` where an alarm goes off.
    """
    accelerator, supervision = run.accelerator, data.supervision
    losses = {name: made(term) for name, term in supervision.terms.items()}
    regulariser = made(supervision.regulariser) if supervision.regulariser else None
    steps = Steps(encoder.backbone, optimisation, data.plan.steps, seed, run)
    account, leads = Account.of(steps.facts), accelerator.is_main_process
    if regulariser and account.regulariser:
        regulariser.load(account.regulariser)
    history, watch = (
        Record(run.folder / HISTORY, steps.start, writes=leads),
        Watch(data, steps, run),
    )
    for number in range(steps.start, steps.total):
        part = share(data.sampler.step(number), accelerator)
        step, embedding = represent(encoder, part, data, accelerator)
        account.spent += Spending(steps=1) + over_ranks(embedding.spending(data.meter), accelerator)
        terms = {name: loss.weight * loss(step) for name, loss in losses.items()}
        terms |= regulariser(step, number / steps.total) if regulariser else {}
        accelerator.backward(torch.stack(list(terms.values())).sum())
        names, told = list(terms), [value.detach() for value in terms.values()]
        # They hold the graph, and it some activations, through the passes that follow.
        del step, terms
        embedding.backward()
        del embedding
        rate, norm = steps.learning_rate, steps.clip_gradients()
        # All at once, as reading waits for the device.
        *values, length = read([*told, norm], accelerator)
        named = dict(zip(names, values, strict=True))
        named["loss"] = sum(named.values())
        steps.take(number, named["loss"], length)
        account.losses.append(round(named["loss"], 6))
        account.regulariser = getattr(regulariser, "state", dict)()
        of_step = {"learning_rate": rate, "gradient_norm": length} | _reached(account)
        of_step |= account.regulariser | memory(accelerator.device)
        history.add({"step": number + 1} | named | of_step)
        if (done := number + 1) in watch.due:
            of_loss = {"gradient_norm": length} | regulariser_strength(named, losses)
            flops = account.spent.useful_flops
            account.add_point(*watch.look(encoder, done, flops, of_loss))
        steps.end(number, named, account.facts())
    trained = sum(p.numel() for p in steps.parameters.values())
    return account.facts() | {"trainable_parameters": trained} | memory(accelerator.device)


def regulariser_strength(named: Mapping[str, float], losses: Collection[str]) -> dict[str, float]:
    """What the regulariser adds to a step's loss, over the rest of it; nothing where there is none.

    Over 1 where the rest is less: what has been learnt makes no regulariser a strong one.
    """
    added = [value for name, value in named.items() if name not in (*losses, "loss")]
    return {"regulariser": sum(added) / max(1.0, named["loss"] - sum(added))} if added else {}


def _reached(account: Account) -> dict[str, float]:
    spent = account.spent
    flops, tokens = spent.useful_flops, spent.tokens
    return {"useful_flops": flops, "tokens": tokens, "seconds": account.seconds}


def memory(device: torch.device) -> dict[str, int]:
    """The most bytes that tensors have taken of a GPU; nothing of a CPU, where nobody counts."""
    if device.type != "cuda":
        return {}
    return {"memory_bytes": torch.cuda.max_memory_allocated(device)}
