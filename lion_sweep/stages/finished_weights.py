"""A finished cell's weights, which make vectors of any texts: of what it teaches, or mines.

They are known by the stage that trained them, so that neither the cell's name nor its place is in
any key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lion_sweep.config import TextForm
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.data.marks import Marking
from lion_sweep.data.pretrained import Pretrained, config_of
from lion_sweep.errors import UserError
from lion_sweep.models.encoders import PASSAGES, QUERIES, Encoder
from lion_sweep.stages.backbone import TrainTokenizer
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.contract import tokenise
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.entropy import Scoring
from lion_sweep.stages.finished_cell import Finished
from lion_sweep.stages.texts import Asked, Cut, ImportTexts, Source
from lion_sweep.stages.workshop import Workshop

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FinishedWeights:
    """What a finished cell makes its vectors with: `encode.Weights`, known as the cell knows it."""

    stage: str  # that trained them, by its name
    encoder: Mapping[str, Any]
    cell: Finished = beside()

    @classmethod
    def of(cls, cell: Finished) -> Self:
        """Raises `UserError` where weights, or the decoder below them, are gone or damaged."""
        for title in ("train", "backbone"):
            if title in cell.result["stages"] and not cell.intact(title).is_dir():
                raise UserError(
                    f"{cell.name} has its result, but its weights are gone from "
                    f"{cell.stage(title)}: give the command again that trained it."
                )
        return cls(cell.stage("train").name, cell.config.paradigm.encoder, cell=cell)

    @classmethod
    def named(cls, cell: str, root: Path) -> Self:
        """Of the finished cell of that name, see `Finished.read`."""
        return cls.of(Finished.read(cell, root))

    @property
    def source(self) -> str:
        """Folder or Hugging Face id whose tokenizer reads the texts."""
        return self.cell.source

    @property
    def text(self) -> TextForm:
        """What a text becomes before it is read."""
        return self.cell.config.paradigm.text

    @property
    def adapted(self) -> bool:
        """By adapters, below which weights need no more precision than products."""
        return self.cell.config.recipe.lora is not None

    @property
    def scoring(self) -> Scoring:
        """How it makes a score of two vectors."""
        return Scoring.of(self.cell.config.paradigm)

    @property
    def shape(self) -> DecoderShape:
        """Of its decoder; nothing is loaded."""
        whole = self.source if self.adapted else str(self._weights)
        return DecoderShape.of(config_of(whole))

    @property
    def _weights(self) -> Path:
        from lion_sweep.stages.weights import WEIGHTS  # which imports the models: seconds

        return self.cell.stage("train") / WEIGHTS

    def make(self, dtype: "torch.dtype") -> Encoder:
        """The encoder with its weights, adapters merged."""
        from lion_sweep.models.backbone import Backbone
        from lion_sweep.stages.weights import encoder_of

        sees = self.cell.config.paradigm.attention
        if self.adapted:
            base = Backbone.load(self.source, dtype, attention=sees)
            backbone = base.with_adapter(self._weights).merged()
        else:
            backbone = Backbone.load(self._weights, dtype, attention=sees)
        return encoder_of(self.encoder, backbone)

    def load(self, shop: Workshop) -> Encoder:
        """On this rank's device, as the cell itself was loaded to be scored."""
        how = shop.execution.at(self.cell.config.recipe.precision)
        encoder = self.make(how.frozen_dtype(self.adapted))
        encoder.backbone.to(how.accelerator.device)
        return encoder

    def tokens(self, texts: Source, shop: Workshop, title: str) -> tuple[Cut, Cut]:
        """(queries, passages) of a collection as the cell reads them when it is scored."""
        tokenizer, config, text = self._tokenizer(texts, shop), self.cell.config, self.text
        marking = Marking.of(config.paradigm.tokens)

        def cut(of: ImportTexts, what: str, length: int) -> Cut:
            cache = tokenise(of, tokenizer, length, text, what, f"{title} {what} tokens")
            return cache.cut(length, echo=text.echo).marked(marking[what])

        query_length, passage_length = config.evaluation.lengths_of(texts.name)
        queries = cut(texts.queries, QUERIES, query_length)
        return queries, cut(texts.documents, PASSAGES, passage_length)

    def _tokenizer(self, texts: Source, shop: Workshop) -> Pretrained | Stage:
        """Of a stand-in on its own collection the stage that trained it, as the cell knows it by:
        vectors of the collection that are there are found then."""
        made_by = self.cell.result["stages"].get("tokenizer", {}).get("folder")
        stages = (TrainTokenizer(judged) for judged in texts.judged.values())
        found = next((stage for stage in stages if stage.name == made_by), None)
        return found or Pretrained.tokenizer(self.source, shop.digests)

    def encode(self, texts: Cut, asked: Asked | None, what: str, title: str) -> Encode:
        """Vectors of `queries` or `passages` as the cell is searched by; `asked` as in `Encode`."""
        config, paradigm = self.cell.config, self.cell.config.paradigm
        sparse = paradigm.made_by.over_vocabulary
        how = texts, asked, sparse, config.kept_terms(what), config.recipe.precision
        return Encode(self, *how, projected=paradigm.projected, title=title)
