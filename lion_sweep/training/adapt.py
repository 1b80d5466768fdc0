"""Masked next-token prediction (MNTP; BehnamGhader et al., 2024), once per size.

A causal decoder made bidirectional has to learn to use what comes after a token. Some tokens are
masked; each is predicted from the state of the position before it, as the decoder's head expects.

Where it is asked for, the centre of sparse vectors comes after it: centre.py.

Shapes: B chunks, L tokens, V vocabulary entries.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lion_sweep.config import Adapt, Lora
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Spending, centre_spending, mntp_spending, planned_mntp
from lion_sweep.data.marks import mask_token
from lion_sweep.errors import UserError
from lion_sweep.models.backbone import Backbone
from lion_sweep.training.centre import find_centre
from lion_sweep.training.optimisation import Optimisation, Run, Steps
from lion_sweep.training.parallel import mean_over_ranks

IGNORED = -100
# Of the chosen tokens: 80 % masked, 10 % replaced by a random one, 10 % kept (BERT's recipe).
MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1


def corrupt(
    ids_BL: NDArray[np.int64],
    probability: float,
    mask: int,
    vocabulary: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(inputs, targets); a target is IGNORED where nothing is to be predicted."""
    chosen_BL = rng.random(ids_BL.shape) < probability
    chosen_BL[:, 0] = False
    kind_BL = rng.random(ids_BL.shape)
    masked_BL = chosen_BL & (kind_BL < MASKED_SHARE)
    random_BL = chosen_BL & ~masked_BL & (kind_BL < MASKED_SHARE + RANDOM_SHARE)
    input_BL = np.where(masked_BL, mask, ids_BL)
    input_BL = np.where(random_BL, rng.integers(0, vocabulary, ids_BL.shape), input_BL)
    return input_BL, np.where(chosen_BL, ids_BL, IGNORED)


def mntp_loss(backbone: Backbone, input_BL: Tensor, target_BL: Tensor) -> Tensor:
    """Cross-entropy of every target, read from the position before it; their sum, in nats."""
    state_BLD = backbone.hidden_states(input_BL, torch.ones_like(input_BL))[:, :-1]
    shifted_BL = target_BL[:, 1:]
    asked_BL = shifted_BL != IGNORED
    logits_TV = F.linear(state_BLD[asked_BL], backbone.head_VD.to(state_BLD.dtype))
    return F.cross_entropy(logits_TV.float(), shifted_BL[asked_BL], reduction="sum")


@dataclass(frozen=True)
class Chunks:
    """What MNTP reads: the tokens of all texts, one after the other, who made them, and how."""

    ids_T: NDArray[np.int32]
    tokenizer: PreTrainedTokenizerBase
    rows_at_once: int  # chunks of a micro-batch
    settings: Adapt
    lora: Lora | None

    @property
    def chunks_NL(self) -> NDArray[np.int32]:
        """Raises `UserError` where the texts are too short for one."""
        chunk, tokens = self.settings.chunk, len(self.ids_T)
        if tokens < chunk:
            raise UserError(
                f"The collection has {tokens} tokens, less than one chunk of "
                f"recipe.adapt.chunk={chunk}: lower it, or set recipe.adapt.steps=0 and "
                "recipe.adapt.centre=null."
            )
        return self.ids_T[: tokens // chunk * chunk].reshape(-1, chunk)


def adapt(
    backbone: Backbone, chunks: Chunks, optimisation: Optimisation, seed: int, run: Run
) -> dict[str, Any]:
    """MNTP, then the centre; returns facts. Raises `Interrupted` after a step that is kept."""
    settings, lora = chunks.settings, chunks.lora
    shape = DecoderShape.of(backbone.language_model.config)
    facts = {"planned": planned_mntp(shape, settings, lora).as_dict()}
    done = predict_masked(backbone, chunks, optimisation, seed, run) if settings.steps else {}
    spent = Spending(**done.pop("spent", {}))
    if settings.centre:
        find_centre(
            backbone, chunks.chunks_NL, settings.centre, chunks.rows_at_once, run.accelerator
        )
        spent += centre_spending(shape, settings, lora)
    return facts | done | {"spent": spent.as_dict()}


def predict_masked(
    backbone: Backbone, chunks: Chunks, optimisation: Optimisation, seed: int, run: Run
) -> dict[str, Any]:
    """Train `backbone` in place on all texts of the collection, concatenated; returns facts.

    The chunks of a step and what is masked in them are drawn for all ranks together, each of which
    takes an equal part, so that the number of ranks changes nothing but rounding (and dropout,
    which every rank draws for its own part). Raises `Interrupted` after a step that is kept.
    """
    accelerator, settings, lora = run.accelerator, chunks.settings, chunks.lora
    shape, chunks_NL = DecoderShape.of(backbone.language_model.config), chunks.chunks_NL
    mask, vocabulary = mask_token(chunks.tokenizer), backbone.head_VD.shape[0]
    steps = Steps(backbone, optimisation, settings.steps, seed, run)
    facts = {"spent": Spending().as_dict()} | steps.facts
    ranks, rank = accelerator.num_processes, accelerator.process_index
    size = settings.batch_size // ranks
    own_B = slice(rank * size, (rank + 1) * size)
    for number in range(steps.start, steps.total):
        rng = np.random.default_rng([seed, 2, number])
        rows = rng.integers(0, len(chunks_NL), settings.batch_size)
        ids_BL = chunks_NL[rows].astype(np.int64)
        inputs, targets = corrupt(ids_BL, settings.mask_probability, mask, vocabulary, rng)
        asked, loss = int((targets[:, 1:] != IGNORED).sum()), 0.0
        input_BL = torch.from_numpy(inputs[own_B]).to(accelerator.device)
        target_BL = torch.from_numpy(targets[own_B]).to(accelerator.device)
        for first in range(0, size, chunks.rows_at_once):
            part_BL = slice(first, first + chunks.rows_at_once)
            with accelerator.autocast():
                part = mntp_loss(backbone, input_BL[part_BL], target_BL[part_BL])
            # Of the mean over all ranks' tokens; averaging gradients divides by the ranks.
            part = part * ranks / max(1, asked)
            accelerator.backward(part)
            loss += part.item()
        loss = mean_over_ranks(loss, accelerator)
        steps.clip_gradients()
        steps.take(number, loss)
        cost = mntp_spending(shape, settings, lora, settings.batch_size, asked)
        spent = Spending(**facts["spent"]) + Spending(steps=1) + cost
        facts.setdefault("first_loss", loss)
        facts |= {"spent": spent.as_dict(), "last_loss": loss}
        steps.end(number, {"loss": loss}, facts)
    return facts
