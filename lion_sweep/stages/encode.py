"""One encoder's vectors of texts: a stage for each collection of texts, done once.

Many texts are cut into shards, which are stages too, so that several jobs can encode them: each
takes what nobody else is at. Whoever needs the vectors encodes what is left, takes the parts of all
and deletes the shards. The cut depends on the texts alone, not on how many jobs there are, and no
vector depends on the cut.

Shapes: N texts.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Precision, TextForm
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Meter
from lion_sweep.errors import Busy
from lion_sweep.machine.devices import enough_memory, halved
from lion_sweep.models.encoders import Encoder
from lion_sweep.search import encoding
from lion_sweep.search.parts import Stored, take
from lion_sweep.stages.base import Stage, beside, identity
from lion_sweep.stages.engine import Done
from lion_sweep.stages.texts import Asked, Cut
from lion_sweep.stages.workshop import Workshop

if TYPE_CHECKING:  # a training's negatives may be of vectors that another cell makes
    from lion_sweep.stages.train import AdaptDecoder, TrainCell

VECTORS = "vectors"


class Weights(Protocol):
    """Whatever makes vectors: a finished stage of a cell, or a checkpoint of other origin."""

    @property
    def source(self) -> str:
        """Folder or Hugging Face id whose tokenizer reads the texts."""

    @property
    def text(self) -> TextForm:
        """What a text becomes before they read it."""

    def load(self, shop: Workshop) -> Encoder:
        """The encoder with its weights, on this rank's device."""


@dataclass(frozen=True)
class CellWeights:
    """What a stage of a cell left, with the cell's way from hidden states to vectors."""

    stage: "AdaptDecoder | TrainCell"
    encoder: Mapping[str, Any]
    # In the key of the tokens that are read.
    text: TextForm = field(default_factory=TextForm, kw_only=True, compare=False)

    @property
    def _adapted(self) -> "AdaptDecoder":
        stage: Any = self.stage
        start: AdaptDecoder = getattr(stage, "start", stage)  # of a training
        return start

    @property
    def source(self) -> str:
        return self._adapted.blueprint.source

    def load(self, shop: Workshop) -> Encoder:
        """Adapters merged."""
        from lion_sweep.stages import weights  # imports the models, which a plan need not wait for

        backbone = weights.load(self._adapted, shop.execution, shop.folder(self.stage))
        return weights.encoder_of(self.encoder, backbone.merged())


@dataclass(frozen=True, eq=False)
class Encode(Stage):
    """Vectors of texts, in the order of `asked` (None: of all, in their order)."""

    kind = "encode"
    together = True
    RULES = 2  # 2: parts in place of one array

    weights: Weights
    texts: Cut
    asked: Asked | None
    sparse: bool
    kept_terms: int | None  # largest weights of a sparse vector; None: all
    precision: Precision
    projected: int = beside(0)  # as the weights' encoder says

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Planned and spent, parameters and, where they differ, entries or vectors per text."""
        facts: dict[str, Any] = {}
        parts, shards = folder / VECTORS, self.shards(shop)
        if len(shards) == 1:
            self.encode(shop, parts, 0, 1)
        else:
            taken = self._take(shop, shards)  # before waiting for others
            done = [before or shop.run(shard) for before, shard in zip(taken, shards, strict=True)]
            facts["seconds"] = round(sum(shard.seconds for shard in done), 3)
        if not shop.execution.leads:
            return {}
        if len(shards) > 1:
            shutil.rmtree(parts, ignore_errors=True)  # perhaps of another number of shards
            for shard in done:
                take(shard.folder / VECTORS, parts)
        for left in parts.glob(".*"):  # what a killed process was writing
            left.unlink()
        lengths_N = self.lengths(shop)
        vectors = Stored(parts, len(lengths_N))
        encoder = self.loaded(shop)
        planned = self._meter(encoder).texts(lengths_N, shop.execution.batch_tokens)
        facts |= {"planned": planned.as_dict(), "spent": vectors.spent.as_dict()}
        facts["parameters"] = sum(p.numel() for p in encoder.backbone.parameters())
        if self.sparse:
            facts["L0"] = vectors.nnz / vectors.shape[0]
        if vectors.kind == "multi":
            facts["vectors"] = float(vectors.count_M.mean())
        return facts

    def encode(self, shop: Workshop, folder: Path, shard: int, shards: int) -> None:
        """A shard of the texts, into `folder`."""
        how, length = shop.execution.at(self.precision), self.texts.length
        encoder, rows = self.loaded(shop), self.rows(shop)
        cached, tokens = self.texts.read(shop), how.batch_tokens
        texts = cached if rows is None else cached.subset(rows)
        source = self.weights.source
        texts.check_within(encoder.backbone.language_model.config.vocab_size, source)
        if encoder.reads_bos:
            texts.check_begin(encoder.backbone.bos, source)
        meter = self._meter(encoder)
        setting = encoding.Setting(length, tokens, self.kept_terms, meter, shard, shards)
        where = how.accelerator, folder, shop.progress.step, shop.progress.kept
        with enough_memory(self.title, lambda: halved("evaluation.batch_tokens", tokens, length)):
            encoding.encode(encoder, texts, setting, *where, alone=not self.together)

    def _meter(self, encoder: Encoder) -> Meter:
        from lion_sweep.models.backbone import Backbone

        config, length = encoder.backbone.language_model.config, self.texts.length
        if not isinstance(encoder.backbone, Backbone):  # somebody else's, with an encoder's shape
            return Meter.of_teacher(config, length, self.projected)
        return self.meter(DecoderShape.of(config))

    def meter(self, shape: DecoderShape) -> Meter:
        """What a text costs a decoder of this shape."""
        shape = replace(shape, projection=self.projected)
        return Meter.of_encoding(shape, self.texts.length, sparse=self.sparse)

    def read(self, shop: Workshop) -> Stored:
        """The vectors."""
        return Stored(shop.folder(self) / VECTORS)

    def whole(self, shop: Workshop) -> Done:
        """The vectors; what is left of shards is deleted."""
        done = shop.run(self)
        for shard in self.shards(shop):
            shop.remove(shard)
        return done

    def shards(self, shop: Workshop) -> list["Shard"]:
        """In how many parts jobs take them from each other: by the tokens of the texts."""
        count = max(1, int(self.lengths(shop).sum()) // shop.execution.shard_tokens)
        return [Shard(self, n, count, title=f"{self.title} {n + 1}/{count}") for n in range(count)]

    def share(self, shop: Workshop) -> int:
        """Encode the shards that nobody else is at; returns how many."""
        shards = self.shards(shop)
        if len(shards) == 1:  # left to whoever needs the texts whole
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

    def rows(self, shop: Workshop) -> NDArray[np.int64] | None:
        """Of the texts, [N]; None: all in their order."""
        return None if self.asked is None else self.asked.rows(shop)

    def lengths(self, shop: Workshop) -> NDArray[np.int64]:
        """Tokens of every text, [N]."""
        lengths_N, rows = self.texts.lengths(shop), self.rows(shop)
        return lengths_N if rows is None else lengths_N[rows]

    def loaded(self, shop: Workshop) -> Encoder:
        """The encoder, which the stages of the same weights share."""
        return shop.keep_loaded(str(identity(self.weights)), lambda: self.weights.load(shop))


@dataclass(frozen=True, eq=False)
class Shard(Stage):
    """Every so many-th micro-batch of texts to encode."""

    kind = "shard"
    together = True
    RULES = 2

    of: Encode
    number: int
    shards: int

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """Those of the vectors that it is a part of, not those themselves."""
        return self.of.inputs

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        self.of.encode(shop, folder / VECTORS, self.number, self.shards)
        return {}


@dataclass(frozen=True, eq=False)
class EncodingJob(Stage):
    """A job that takes shards of a cell's passages until there is none that nobody is at."""

    kind = "encoding"
    together = True

    passages: list[Encode]
    number: int  # from 1 on
    jobs: int

    @property
    def inputs(self) -> tuple[Stage, ...]:
        """What the vectors are made from, not the vectors themselves."""
        return tuple(stage for encode in self.passages for stage in encode.inputs)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        return {"shards": sum(encode.share(shop) for encode in self.passages)}
