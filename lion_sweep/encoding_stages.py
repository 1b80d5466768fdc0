"""One encoder's vectors of texts: a stage for each collection of texts, done once.

Many texts are cut into shards, which are stages too, so that several jobs can encode them: each
takes what nobody else is at. Whoever needs the vectors encodes what is left, puts all together and
deletes the shards. The cut depends on the texts alone, not on how many jobs there are, and no
vector depends on the cut.

Shapes: N texts.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from lion_sweep import prepare
from lion_sweep.data import tokens
from lion_sweep.data.texts import Texts
from lion_sweep.devices import enough_memory, halved
from lion_sweep.errors import Busy
from lion_sweep.ledger import DecoderShape
from lion_sweep.meter import Meter, Spending
from lion_sweep.models.backbone import Backbone
from lion_sweep.prepare import Workshop
from lion_sweep.retrieval import encoding
from lion_sweep.stage import Stage, key_of, name_of
from lion_sweep.training.embedding import Encoder

NAME, SHARD = "encode", "shard"
PARTS = "parts"  # of vectors that are not whole yet


@dataclass(frozen=True)
class _Asked:
    """Texts to encode, cut at `length` tokens, and what tells their vectors from others."""

    cached: tokens.Tokens
    rows: NDArray[np.int64] | None  # None: all of them, in their order
    length: int
    specification: dict[str, Any]
    title: str
    shards: int

    @property
    def lengths_N(self) -> NDArray[np.int64]:
        """Tokens of every text."""
        lengths_N = self.cached.lengths(self.length)
        return lengths_N if self.rows is None else lengths_N[self.rows]

    def shard(self, number: int) -> tuple[dict[str, Any], str]:
        """(specification, title) of a shard's stage."""
        own = {"of": name_of(NAME, self.specification), "number": number, "shards": self.shards}
        return own, f"{self.title} {number + 1}/{self.shards}"


class EncodingStages:
    """See `Evaluator`; weights are loaded when the first text is to be encoded."""

    def __init__(
        self,
        workshop: Workshop,
        accelerator: Accelerator,
        source: str,
        load: Callable[[], Encoder],
        identity: dict[str, Any],
        *,
        is_sparse: bool,
        title: str,
    ) -> None:
        self.workshop, self.accelerator = workshop, accelerator
        self.evaluation = workshop.config.evaluation
        self.source, self.load, self.identity = source, load, identity
        self.is_sparse, self.title = is_sparse, title
        self.encoded: dict[str, Stage] = {}  # by folder: what this encoder's vectors took

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder with its weights."""
        return self.load()

    def whole(self, texts: Texts, ids: list[str] | None, length: int, shown: str) -> Stage:
        """Vectors of these texts, in the order of `ids` (None: of all, in their order)."""
        asked = self._asked(texts, ids, length, shown)

        def work(partial: Path) -> dict[str, Any]:
            facts: dict[str, Any] = {}
            folders = [partial / PARTS]
            if asked.shards == 1:
                self._encode(asked, 0, folders[0], asked.title)
            else:
                taken = self._take(asked)  # before waiting for others
                shards = [done or self._shard(asked, number) for number, done in enumerate(taken)]
                folders = [shard.folder / PARTS for shard in shards]
                facts["seconds"] = round(sum(shard.seconds for shard in shards), 3)
            if not self.accelerator.is_main_process:
                return {}
            lengths_N = asked.lengths_N
            vectors, spent = encoding.whole(folders, len(lengths_N))
            encoding.save(partial / "vectors", vectors)
            shutil.rmtree(partial / PARTS, ignore_errors=True)
            planned = self._meter(length).texts(lengths_N, self.evaluation.batch_tokens)
            facts |= {"planned": planned.as_dict(), "spent": spent.as_dict()}
            facts["parameters"] = sum(p.numel() for p in self.encoder.backbone.parameters())
            if self.is_sparse:
                facts["L0"] = vectors.nnz / vectors.shape[0]
            return facts

        done = self.workshop.run(NAME, asked.specification, work, asked.title, together=True)
        if asked.shards > 1:
            for number in range(asked.shards):
                self.workshop.remove(SHARD, *asked.shard(number))
        self.encoded[done.folder.name] = done
        return done

    def share(self, texts: Texts, length: int, shown: str) -> int:
        """Encode the shards of all texts that nobody else is at, for `whole`; returns how many.

        Texts that make one shard are left to `whole`.
        """
        asked = self._asked(texts, None, length, shown)
        if asked.shards == 1:
            return 0
        return sum(not shard.reused for shard in self._take(asked) if shard)

    def _asked(self, texts: Texts, ids: list[str] | None, length: int, shown: str) -> _Asked:
        folder = prepare.tokenised(
            self.workshop, f"{shown} tokens", self.source, texts, length, offline=False
        )
        specification = self.identity | {
            "tokens": folder.name,
            "ids": ids and key_of(ids),
            "length": length,
            "batch_tokens": self.evaluation.batch_tokens,
            "kept_terms": self.evaluation.kept_terms if self.is_sparse else None,
        }
        rows = None if ids is None else texts.rows(ids)
        title = f"encode {self.title}{shown}"
        asked = _Asked(tokens.read(folder), rows, length, specification, title, 1)
        shards = int(asked.lengths_N.sum()) // self.workshop.config.site.shard_tokens
        return replace(asked, shards=max(1, shards))

    def _take(self, asked: _Asked) -> list[Stage | None]:
        """Encode the shards that nobody is at; returns all, with None for those somebody is at."""
        shards: list[Stage | None] = []
        for number in range(asked.shards):
            if self.workshop.finished(NAME, asked.specification):
                break  # and its shards are gone, or about to go
            try:
                shards.append(self._shard(asked, number, wait=False))
            except Busy:
                shards.append(None)
        return shards

    def _shard(self, asked: _Asked, number: int, wait: bool = True) -> Stage:
        specification, title = asked.shard(number)

        def work(partial: Path) -> dict[str, Any]:
            self._encode(asked, number, partial / PARTS, title)
            return {}

        return self.workshop.run(SHARD, specification, work, title, together=True, wait=wait)

    def _encode(self, asked: _Asked, number: int, folder: Path, title: str) -> None:
        batch_tokens, length = self.evaluation.batch_tokens, asked.length
        wanted = asked.cached if asked.rows is None else asked.cached.subset(asked.rows)
        vocabulary = self.encoder.backbone.language_model.config.vocab_size
        wanted.check_within(vocabulary, self.source)
        with enough_memory(title, lambda: halved("evaluation.batch_tokens", batch_tokens, length)):
            encoding.encode(
                self.encoder,
                wanted,
                length,
                batch_tokens,
                is_sparse=self.is_sparse,
                kept_terms=self.evaluation.kept_terms,
                meter=self._meter(length),
                accelerator=self.accelerator,
                folder=folder,
                shard=number,
                shards=asked.shards,
                on_batch=self.workshop.progress.step,
                on_kept=self.workshop.progress.kept,
            )

    def _meter(self, length: int) -> Meter:
        backbone = self.encoder.backbone
        if not isinstance(backbone, Backbone):  # somebody else's model, with an encoder's shape
            return Meter.of_teacher(backbone.language_model.config, length)
        shape = DecoderShape.of(backbone.language_model.config)
        return Meter.of_encoding(shape, length, sparse=self.is_sparse)

    def ledger(self) -> dict[str, Any]:
        """Planned and spent on all texts that this encoder was asked for, each counted once."""
        return {
            kind: sum(
                (Spending(**done.facts[kind]) for done in self.encoded.values()), Spending()
            ).as_dict()
            for kind in ("planned", "spent")
        }
