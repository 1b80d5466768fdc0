"""Training as a textbook has it, in float64 and without padding: what our steps are compared to.

Nothing of lion_sweep is used here. Weights go by short names, as in layers.0.mlp.up_proj.weight.

Shapes: B queries, G passages of a query (its positive first), N texts, L tokens, D dimensions of
hidden states, H of a head, V vocabulary entries.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

LAYERS, HEADS, KEY_VALUE_HEADS, THETA, NORM_EPSILON = 2, 4, 2, 10000.0, 1e-6
PROJECTIONS = [
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
]  # in the order in which a layer calls them
TABLES = ("embed_tokens.weight", "lm_head.weight")

Weights = dict[str, Tensor]
Masks = dict[str, Tensor]  # of dropout for one text, by projection
Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Optimiser:
    """How steps are taken."""

    steps: int
    rate: float
    rows_rate: float | None  # of embedding and head rows; None: frozen
    warmup: float = 0.5  # share of the steps
    weight_decay: float = 0.1
    clip: float = 0.7
    betas: tuple[float, float] = (0.8, 0.95)
    epsilon: float = 0.01

    def trained(self, weights: Weights) -> dict[str, float]:
        """Learning rate of every weight that trains: adapters alone, where there are any."""
        adapters = [name for name in weights if ".lora_" in name]
        rates = {
            name: self.rows_rate if name in TABLES else self.rate for name in adapters or weights
        }
        return {name: rate for name, rate in rates.items() if rate is not None}

    def share(self, step: int) -> float:
        """Of the learning rate in a step, counted from 0: linearly up, then down towards 0."""
        rising = round(self.warmup * self.steps)
        if step < rising:
            return (step + 1) / rising
        return (self.steps - step) / (self.steps - rising + 1)


def descend(
    weights: Weights, optimiser: Optimiser, terms_of: Callable[[Weights, int], Terms]
) -> Iterator[tuple[dict[str, float], Weights]]:
    """(terms before the step, what trains after it) of every step: clipped gradients, AdamW."""
    rates = optimiser.trained(weights)
    weights = {name: weight.double() for name, weight in weights.items()}
    (first, second), mean, square = optimiser.betas, {}, {}
    for name in rates:
        mean[name] = square[name] = torch.zeros_like(weights[name])
    for step in range(optimiser.steps):
        leaves = {name: weights[name].clone().requires_grad_() for name in rates}
        terms = terms_of(weights | leaves, step)
        torch.stack(list(terms.values())).sum().backward()
        # What the loss does not read, as a dense cell its head, does not even decay.
        gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
        norm = float(torch.stack([(g**2).sum() for g in gradients.values()]).sum().sqrt())
        factor = min(1.0, optimiser.clip / norm)
        for name, whole in gradients.items():
            gradient, rate = factor * whole, rates[name] * optimiser.share(step)
            mean[name] = first * mean[name] + (1 - first) * gradient
            square[name] = second * square[name] + (1 - second) * gradient**2
            direction = mean[name] / (1 - first ** (step + 1))
            size = (square[name] / (1 - second ** (step + 1))).sqrt() + optimiser.epsilon
            decayed = weights[name] * (1 - rate * optimiser.weight_decay)
            weights[name] = decayed - rate * direction / size
        found = {name: term.item() for name, term in terms.items()}
        yield found, {name: weights[name] for name in rates}


def hidden_states(
    texts: list[list[int]],
    weights: Weights,
    scaling: float = 1.0,
    masks: list[Masks] | None = None,
    *,
    causal: bool = False,
) -> list[Tensor]:
    """[L, D] of every text, with nothing padded: those of one length are computed together.

    `scaling` is LoRA's alpha over its rank, `masks` its dropout for every text. A `causal` decoder
    sees no later tokens.
    """
    found: dict[int, Tensor] = {}
    for length in set(map(len, texts)):
        rows = [row for row, text in enumerate(texts) if len(text) == length]
        together = None
        if masks:
            together = {name: torch.stack([masks[row][name] for row in rows]) for name in masks[0]}
        ids_NL = torch.tensor([texts[row] for row in rows])
        states_NLD = _decode(ids_NL, weights, scaling, together, causal)
        found |= dict(zip(rows, states_NLD, strict=True))
    return [found[row] for row in range(len(texts))]


def _decode(
    ids_NL: Tensor, weights: Weights, scaling: float, masks: Masks | None, causal: bool
) -> Tensor:
    """[N, L, D] after the last norm of a Llama, where a token sees all others or those before."""
    later_LL = torch.ones(ids_NL.shape[1], ids_NL.shape[1]).triu(1).bool() & causal

    def linear(x_NLD: Tensor, name: str) -> Tensor:
        y_NLD = x_NLD @ weights[f"{name}.weight"].T
        if f"{name}.lora_A.weight" in weights:
            dropped_NLD = x_NLD * masks[name] if masks else x_NLD
            low = dropped_NLD @ weights[f"{name}.lora_A.weight"].T
            y_NLD = y_NLD + scaling * (low @ weights[f"{name}.lora_B.weight"].T)
        return y_NLD

    def norm(x_NLD: Tensor, name: str) -> Tensor:
        mean_NL1 = (x_NLD**2).mean(dim=-1, keepdim=True)
        return weights[f"{name}.weight"] * x_NLD / (mean_NL1 + NORM_EPSILON).sqrt()

    def turned(x_NLH: Tensor) -> Tensor:
        half = x_NLH.shape[-1] // 2
        speed = THETA ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(x_NLH.shape[1], dtype=torch.float64)[:, None] * speed
        one, other = x_NLH[..., :half], x_NLH[..., half:]
        return torch.cat(
            [one * angle.cos() - other * angle.sin(), other * angle.cos() + one * angle.sin()],
            dim=-1,
        )

    x_NLD = weights["embed_tokens.weight"][ids_NL]
    for layer in (f"layers.{number}" for number in range(LAYERS)):
        normed_NLD = norm(x_NLD, f"{layer}.input_layernorm")
        query, key, value = (linear(normed_NLD, f"{layer}.self_attn.{n}_proj") for n in "qkv")
        queries = query.chunk(HEADS, dim=-1)
        keys, values = key.chunk(KEY_VALUE_HEADS, dim=-1), value.chunk(KEY_VALUE_HEADS, dim=-1)
        heads = []
        for number, query_NLH in enumerate(queries):
            shared = number * KEY_VALUE_HEADS // HEADS
            scores_NLL = turned(query_NLH) @ turned(keys[shared]).mT / query_NLH.shape[-1] ** 0.5
            seen_NLL = scores_NLL.masked_fill(later_LL, -torch.inf)
            heads.append(seen_NLL.softmax(dim=-1) @ values[shared])
        x_NLD = x_NLD + linear(torch.cat(heads, dim=-1), f"{layer}.self_attn.o_proj")
        normed_NLD = norm(x_NLD, f"{layer}.post_attention_layernorm")
        gate = linear(normed_NLD, f"{layer}.mlp.gate_proj")
        inner = gate * gate.sigmoid() * linear(normed_NLD, f"{layer}.mlp.up_proj")
        x_NLD = x_NLD + linear(inner, f"{layer}.mlp.down_proj")
    return norm(x_NLD, "norm")


def head(weights: Weights) -> Tensor:
    """[V, D]; the embeddings where it has no matrix of its own."""
    return weights.get("lm_head.weight", weights["embed_tokens.weight"])


def dense(states_LD: Tensor, normalize: str) -> Tensor:
    """[D]: the mean of unit states, or the unit mean of states."""
    if normalize == "tokens":
        return (states_LD / states_LD.norm(dim=1, keepdim=True)).mean(dim=0)
    mean_D = states_LD.mean(dim=0)
    return mean_D / mean_D.norm()


def sparse(states_LD: Tensor, weights: Weights, threshold: float) -> Tensor:
    """[V]: log(1 + relu(D^(-1/4) * largest logit - threshold))."""
    largest_V = (states_LD @ head(weights).T).max(dim=0).values
    return (states_LD.shape[1] ** -0.25 * largest_V - threshold).clamp(min=0).log1p()


def contrastive(scores_BBG: Tensor, own: bool) -> Tensor:
    """-log softmax of the positive among all passages, or among a query's own."""
    losses = []
    for row, scores_BG in enumerate(scores_BBG):
        among = scores_BG[row] if own else scores_BG.flatten()
        losses.append(among.logsumexp(dim=0) - scores_BG[row, 0])
    return torch.stack(losses).mean()


def listwise_kl(scores_BG: Tensor, teacher_BG: Tensor) -> Tensor:
    """KL of the student's softmax from the teacher's, over a query's own passages."""
    teacher = teacher_BG.log_softmax(dim=1)
    return (teacher.exp() * (teacher - scores_BG.log_softmax(dim=1))).sum(dim=1).mean()


def margin_mse(scores_BG: Tensor, teacher_BG: Tensor) -> Tensor:
    """Squared error of the margins of the positive over each negative."""
    margins, wanted = (x[:, :1] - x[:, 1:] for x in (scores_BG, teacher_BG))
    return ((margins - wanted) ** 2).mean()


def flops(vectors_ND: Tensor) -> Tensor:
    """Squared mean activations, summed."""
    return (vectors_ND.abs().mean(dim=0) ** 2).sum()


def next_tokens(
    inputs: list[list[int]],
    targets: list[list[int | None]],
    weights: Weights,
    scaling: float,
    masks: list[Masks] | None,
) -> Tensor:
    """Mean cross-entropy of the targets, each read from the state of the token before it."""
    losses = []
    states = hidden_states(inputs, weights, scaling, masks)
    for states_LD, wanted in zip(states, targets, strict=True):
        for place, target in enumerate(wanted):
            if target is not None:
                logits_V = head(weights) @ states_LD[place - 1]
                losses.append(logits_V.logsumexp(dim=0) - logits_V[target])
    return torch.stack(losses).mean()


class Dropout:
    """Masks in the order in which one process draws them: by micro-batch, layer and projection."""

    def __init__(self, seed: int, rate: float, weights: Weights) -> None:
        self.generator, self.rate = torch.Generator().manual_seed(seed), rate
        names = (f"layers.{layer}.{name}" for layer in range(LAYERS) for name in PROJECTIONS)
        self.width = {name: weights[f"{name}.weight"].shape[1] for name in names}

    def of(self, batch: list[list[int]]) -> list[Masks]:
        """For every text of a micro-batch, which is padded on the right to its longest."""
        longest, kept = max(map(len, batch)), 1 - self.rate
        found: list[Masks] = [{} for _ in batch]
        for name, width in self.width.items():
            mask = torch.empty(len(batch), longest, width)
            mask.bernoulli_(kept, generator=self.generator)
            for row, text in enumerate(batch):
                found[row][name] = mask[row, : len(text)].double() / kept
        return found
