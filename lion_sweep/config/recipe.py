"""The schema of the group `recipe`: how training runs."""

from dataclasses import dataclass, field
from enum import StrEnum

from omegaconf import MISSING

from lion_sweep.config.section import Section, positive, require, share
from lion_sweep.config.site import When

# Number format of the forward pass; weights and optimiser stay in fp32 when it is auto.
Precision = StrEnum("Precision", ["auto", "fp32", "bf16"])
# What a dense encoder scales to unit length: every token's state, or their mean.
Normalize = StrEnum("Normalize", ["tokens", "mean"])
# How the learning rate falls to 0 after the warmup.
Schedule = StrEnum("Schedule", ["linear", "cosine"])
# What a dense vector is made of: the states of all tokens, or that of the last one.
Pooling = StrEnum("Pooling", ["mean", "last"])
# What a token sees: its whole text, or itself and the tokens before it.
Attention = StrEnum("Attention", ["bidirectional", "causal"])


@dataclass
class TextForm(Section):
    """What a text becomes before a decoder reads it: as much a part of its weights as they are."""

    query_prompt: str = ""
    passage_prompt: str = ""
    special_tokens: bool = True
    append_eos: bool = False
    echo: bool = False

    def prompt(self, what: str) -> str:
        """What stands before `queries` or `passages`."""
        return {"queries": self.query_prompt, "passages": self.passage_prompt}[what]


@dataclass
class Lengths(Section):
    """Tokens kept of each text in training."""

    query: int = MISSING
    passage: int = MISSING

    def check(self, key: str) -> None:
        positive(self, key, "query", "passage")


@dataclass
class Lora(Section):
    """Low-rank adapters; everything else is frozen. `resolve` makes None of rank 0."""

    rank: int = MISSING
    alpha: int = MISSING
    dropout: float = MISSING
    targets: list[str] = MISSING

    def check(self, key: str) -> None:
        require(
            self.rank > 0,
            f"{key}.rank={self.rank}: set {key}.rank=0 for full fine-tuning, or a positive rank.",
        )


@dataclass
class Adapt(Section):
    """Masked next-token prediction before training."""

    length: int = MISSING
    steps: int = MISSING
    batch_size: int = MISSING
    chunk: int = MISSING
    mask_probability: float = MISSING
    learning_rate: float = MISSING
    embedding_rate: float | None = None
    centre: int | None = None

    def check(self, key: str) -> None:
        positive(self, key, "batch_size", "chunk", "length", "centre")
        require(self.steps >= 0, f"{key}.steps={self.steps} must be 0 (no adaptation) or more.")


@dataclass
class Weights(Section):
    """What losses of several terms take from the recipe: weights by term."""

    kd: dict[str, float] = MISSING
    clkd: dict[str, float] = MISSING


@dataclass
class ListwiseRecipe(Section):
    """What the listwise KL takes from the recipe."""

    student_temperature: float = MISSING
    teacher_temperature: float = MISSING

    def check(self, key: str) -> None:
        positive(self, key, "student_temperature", "teacher_temperature")


@dataclass
class DenseRecipe(Section):
    """What the dense paradigm takes from the recipe."""

    normalize: Normalize = MISSING
    temperature: float = MISSING
    teacher_scale: float = MISSING


@dataclass
class SparseRecipe(Section):
    """What the sparse paradigm takes from the recipe."""

    threshold: float = MISSING
    logit_scale: float | None = None
    pool_bos: bool = True
    temperature: float = MISSING
    teacher_scale: float = MISSING
    flops_query: float = MISSING
    flops_passage: float = MISSING
    flops_ramp: float = MISSING
    flops_micro_batches: int = MISSING
    flops_pool: int | None = None
    flops_apart: bool = MISSING
    flops_devices: int = MISSING

    def check(self, key: str) -> None:
        share(f"{key}.flops_ramp", self.flops_ramp, "a share of the steps")
        positive(self, key, "flops_micro_batches", "flops_pool", "flops_devices")
        positive(self, key, "logit_scale")


@dataclass
class MultiVectorRecipe(Section):
    """What the multi-vector paradigm takes from the recipe."""

    dimension: int = MISSING
    temperature: float = MISSING
    teacher_scale: float = MISSING
    fill_queries: bool = MISSING
    skip_punctuation: bool = MISSING

    def check(self, key: str) -> None:
        positive(self, key, "dimension")


@dataclass
class Recipe(Section):
    """How training runs."""

    name: str = MISSING
    attention: Attention = Attention.bidirectional
    text: TextForm = field(default_factory=TextForm)
    lengths: Lengths = MISSING
    evaluation_query_length: int = MISSING
    evaluation_passage_length: int = MISSING
    batch_size: dict[str, int] = MISSING  # by loss, as are
    negatives: dict[str, int] = MISSING
    negative_depth: int = MISSING
    weights: Weights = MISSING
    listwise: ListwiseRecipe = MISSING
    candidates: int | None = None
    gathered_devices: int = MISSING
    micro_batch_tokens: int = MISSING
    gradient_cache: When = MISSING
    learning_rate: float = MISSING
    embedding_rate: float | None = None
    schedule: Schedule = MISSING
    warmup: float = MISSING
    weight_decay: float = MISSING
    clip: float = MISSING
    betas: list[float] = MISSING
    epsilon: float = MISSING
    precision: Precision = MISSING
    checkpoint_every: int = MISSING
    lora: Lora | None = None
    adapt: Adapt = MISSING
    flops: float = MISSING
    flops_tolerance: float = MISSING
    dense: DenseRecipe = MISSING
    sparse: SparseRecipe = MISSING
    by: dict[str, str] = field(default_factory=dict)  # of keys with ${by:...}; filled in
    multi_vector: MultiVectorRecipe = MISSING

    def check(self, key: str) -> None:
        positive(self, key, "micro_batch_tokens", "learning_rate", "negative_depth")
        positive(self, key, "checkpoint_every", "gathered_devices")
        share(f"{key}.warmup", self.warmup, "a share of the steps")
        require(
            not (self.lora and self.embedding_rate),
            f"{key}.embedding_rate trains embedding rows, which {key}.lora freezes: "
            f"set {key}.embedding_rate=null or {key}.lora.rank=0.",
        )
