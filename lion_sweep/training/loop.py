"""The training loop.

Shapes: B queries of this rank's part of a step, G = 1 + negatives, N texts, D dimensions.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from hydra.utils import instantiate

from lion_sweep.config import Config
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.batches import Sampler, Step
from lion_sweep.data.tokens import Tokens
from lion_sweep.losses.representations import Representations
from lion_sweep.models.encoders import Encoder
from lion_sweep.training.embedding import Embedding
from lion_sweep.training.optimisation import Optimisation, Run, Steps
from lion_sweep.training.parallel import gather, mean_over_ranks, over_ranks


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
        return cls(sparse, temperature, scale, loss.terms, paradigm.regulariser)


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
    query_BD, passage_ND = embedding.vectors_ND[:queries], embedding.vectors_ND[queries:]
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


def train(
    encoder: Encoder, data: TrainingData, optimisation: Optimisation, seed: int, run: Run
) -> dict[str, Any]:
    """Train for `data.plan.steps` steps; what was spent, the losses. May raise `Interrupted`."""
    accelerator, supervision = run.accelerator, data.supervision
    losses = {name: instantiate(term) for name, term in supervision.terms.items()}
    regulariser = instantiate(supervision.regulariser) if supervision.regulariser else None
    steps = Steps(encoder.backbone, optimisation, data.plan.steps, seed, run)
    spent = Spending(**steps.facts.get("spent", {}))
    seen: list[float] = steps.facts.get("loss", [])
    begun = time.perf_counter() - steps.facts.get("seconds", 0.0)

    def facts() -> dict[str, Any]:
        seconds = time.perf_counter() - begun
        return {"spent": spent.as_dict(), "loss": seen, "seconds": seconds}

    for number in range(steps.start, steps.total):
        part = share(data.sampler.step(number), accelerator)
        step, embedding = represent(encoder, part, data, accelerator)
        spent += Spending(steps=1) + over_ranks(embedding.spending(data.meter), accelerator)
        terms = {name: loss.weight * loss(step) for name, loss in losses.items()}
        terms |= regulariser(step, number / steps.total) if regulariser else {}
        accelerator.backward(torch.stack(list(terms.values())).sum())
        named = {name: mean_over_ranks(v.item(), accelerator) for name, v in terms.items()}
        # They hold the graph, and it some activations, through the passes that follow.
        del step, terms
        embedding.backward()
        del embedding
        named["loss"] = sum(named.values())
        steps.take(number, named["loss"])
        seen.append(round(named["loss"], 6))
        steps.end(number, named, facts())
    return facts() | {"trainable_parameters": sum(p.numel() for p in steps.parameters.values())}
