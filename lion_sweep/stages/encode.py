"""One encoder's vectors of texts: a stage for each collection of texts, done once.

Many texts are cut into shards, which are stages too, so that several jobs can encode them: each
takes what nobody else is at. Whoever needs the vectors encodes what is left, puts all together and
deletes the shards. The cut depends on the texts alone, not on how many jobs there are, and no
vector depends on the cut.

Shapes: N texts.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray

from lion_sweep.config import Precision
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import Busy
from lion_sweep.machine.devices import enough_memory, halved
from lion_sweep.stages.adapt import AdaptDecoder
from lion_sweep.stages.backbone import Asked
from lion_sweep.stages.base import Stage, beside, identity
from lion_sweep.stages.engine import Done
from lion_sweep.stages.tokens import Cut
from lion_sweep.stages.train import TrainCell
from lion_sweep.stages.workshop import Workshop

if TYPE_CHECKING:  # importing the models takes seconds, which a plan need not wait
    from lion_sweep.models.encoders import Encoder

PARTS = "parts"  # of vectors that are not whole yet
VECTORS = "vectors"


class Weights(Protocol):
    """Whatever makes vectors: a finished stage of a cell, or a checkpoint of other origin."""

    @property
    def source(self) -> str:
        """Folder or Hugging Face id whose tokenizer reads the texts."""

    def load(self, shop: Workshop) -> "Encoder":
        """The encoder with its weights, on this rank's device."""


@dataclass(frozen=True)
class CellWeights:
    """What a stage of a cell left, with the cell's way from hidden states to vectors."""

    stage: AdaptDecoder | TrainCell
    encoder: Mapping[str, Any]

    @property
    def _adapted(self) -> AdaptDecoder:
        return self.stage.start if isinstance(self.stage, TrainCell) else self.stage

    @property
    def source(self) -> str:
        """Of what was adapted."""
        return self._adapted.blueprint.source

    def load(self, shop: Workshop) -> "Encoder":
        """Adapters merged."""
        from lion_sweep.stages import weights

        adapted, folder = self._adapted, shop.folder(self.stage)
        backbone = weights.load(adapted.blueprint, adapted.lora, shop.execution, folder).merged()
        encoder: Encoder = instantiate(self.encoder, backbone=backbone)
        return encoder


@dataclass(frozen=True, eq=False)
class Encode(Stage):
    """Vectors of texts, in the order of `asked` (None: of all, in their order)."""

    kind = "encode"
    together = True

    weights: Weights
    texts: Cut
    asked: Asked | None
    sparse: bool
    kept_terms: int | None  # largest weights of a sparse vector; None: all
    precision: Precision
    title: str = beside()

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Planned and spent, parameters and, of sparse vectors, entries per text."""
        from lion_sweep.search import encoding

        facts: dict[str, Any] = {}
        folders, shards = [folder / PARTS], self.shards(shop)
        if len(shards) == 1:
            encode(self, shop, folders[0], 0, 1)
        else:
            taken = self._take(shop, shards)  # before waiting for others
            done = [before or shop.run(shard) for before, shard in zip(taken, shards, strict=True)]
            folders = [shard.folder / PARTS for shard in done]
            facts["seconds"] = round(sum(shard.seconds for shard in done), 3)
        if not shop.execution.leads:
            return {}
        lengths_N = self.lengths(shop)
        vectors, spent = encoding.whole(folders, len(lengths_N))
        encoding.save(folder / VECTORS, vectors)
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        encoder = self.loaded(shop)
        planned = _meter(encoder, self).texts(lengths_N, shop.execution.batch_tokens)
        facts |= {"planned": planned.as_dict(), "spent": spent.as_dict()}
        facts["parameters"] = sum(p.numel() for p in encoder.backbone.parameters())
        if self.sparse:
            facts["L0"] = vectors.nnz / vectors.shape[0]
        return facts

    def whole(self, shop: Workshop) -> Done:
        """The vectors; what is left of shards is deleted."""
        done = shop.run(self)
        for shard in self.shards(shop):
            shop.remove(shard)
        return done

    def shards(self, shop: Workshop) -> list["Shard"]:
        """In how many parts jobs take them from each other: by the tokens of the texts."""
        count = max(1, int(self.lengths(shop).sum()) // shop.execution.shard_tokens)
        return [
            Shard(self, number, count, title=f"{self.title} {number + 1}/{count}")
            for number in range(count)
        ]

    def share(self, shop: Workshop) -> int:
        """Encode the shards that nobody else is at; returns how many.

        Texts that make one shard are left to whoever needs them whole.
        """
        shards = self.shards(shop)
        if len(shards) == 1:
            return 0
        return sum(not done.reused for done in self._take(shop, shards) if done)

    def _take(self, shop: Workshop, shards: list["Shard"]) -> list[Done | None]:
        """Encode the shards that nobody is at; None for those that somebody is at."""
        taken: list[Done | None] = []
        for shard in shards:
            if shop.finished(self):
                break  # and its shards are gone, or about to go
            try:
                taken.append(shop.run(shard, wait=False))
            except Busy:
                taken.append(None)
        return taken + [None] * (len(shards) - len(taken))

    def tokens(self, shop: Workshop) -> Tokens:
        """Of the texts that are encoded, in their order."""
        cached = self.texts.read(shop)
        return cached if self.asked is None else cached.subset(_rows(self.asked))

    def lengths(self, shop: Workshop) -> NDArray[np.int64]:
        """Tokens of every text, [N]."""
        lengths_N = self.texts.lengths(shop)
        return lengths_N if self.asked is None else lengths_N[_rows(self.asked)]

    def loaded(self, shop: Workshop) -> "Encoder":
        """The encoder, which the stages of the same weights share."""
        encoder: Encoder = shop.keep_loaded(
            str(identity(self.weights)), lambda: self.weights.load(shop)
        )
        return encoder


@dataclass(frozen=True, eq=False)
class Shard(Stage):
    """Every so many-th micro-batch of texts to encode."""

    kind = "shard"
    together = True

    of: Encode
    number: int
    shards: int
    title: str = beside()

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """Those of the vectors that it is a part of, not those themselves."""
        return self.of.inputs

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Nothing to tell."""
        encode(self.of, shop, folder / PARTS, self.number, self.shards)
        return {}


def encode(wanted: Encode, shop: Workshop, folder: Path, shard: int, shards: int) -> None:
    """A shard of the texts, into `folder`."""
    from lion_sweep.search import encoding

    how, length, progress = shop.execution, wanted.texts.length, shop.progress
    texts, encoder = wanted.tokens(shop), wanted.loaded(shop)
    vocabulary = encoder.backbone.language_model.config.vocab_size
    texts.check_within(vocabulary, wanted.weights.source)
    tokens, meter = how.batch_tokens, _meter(encoder, wanted)
    setting = encoding.Setting(length, tokens, wanted.kept_terms, meter, shard, shards)
    where = how.accelerator, folder, progress.step, progress.kept
    with enough_memory(wanted.title, lambda: halved("evaluation.batch_tokens", tokens, length)):
        encoding.encode(encoder, texts, setting, *where)


@dataclass(frozen=True, eq=False)
class EncodingJob(Stage):
    """One of several jobs that take the shards of a cell's passages from each other.

    It is finished when no shard is left that nobody is at.
    """

    kind = "encoding"
    together = True

    passages: list[Encode]
    number: int  # from 1 on
    jobs: int
    title: str = beside("encoding")

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """What the vectors are made from, not the vectors themselves."""
        return tuple(stage for encode in self.passages for stage in encode.inputs)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """How many shards it encoded."""
        return {"shards": sum(encode.share(shop) for encode in self.passages)}


def _rows(asked: Asked) -> NDArray[np.int64]:
    return asked.queries.rows(asked.ids)


def _meter(encoder: "Encoder", wanted: Encode) -> Meter:
    from lion_sweep.models.backbone import Backbone

    backbone, length = encoder.backbone, wanted.texts.length
    if not isinstance(backbone, Backbone):  # somebody else's model, with an encoder's shape
        return Meter.of_teacher(backbone.language_model.config, length)
    shape = DecoderShape.of(backbone.language_model.config)
    return Meter.of_encoding(shape, length, sparse=wanted.sparse)


def ledger(shop: Workshop, encoded: list[Encode]) -> dict[str, Any]:
    """Planned and spent on these texts, each counted once."""
    done = {found.folder.name: found for one in encoded if (found := shop.find(one))}
    return {
        kind: sum((Spending(**one.facts[kind]) for one in done.values()), Spending()).as_dict()
        for kind in ("planned", "spent")
    }
