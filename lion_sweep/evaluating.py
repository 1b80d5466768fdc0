"""Scoring an encoder on collections: encode, search, score, each a stage that is done once.

Vectors are found by the texts they are of, so collections with equal texts are encoded once.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from scipy import sparse

from lion_sweep import prepare
from lion_sweep.config_data import DensePrecision, SparseEngine
from lion_sweep.data import tokens
from lion_sweep.data.collection import Collection
from lion_sweep.data.texts import Texts
from lion_sweep.devices import enough_memory, halved
from lion_sweep.ledger import DecoderShape
from lion_sweep.meter import Meter, Spending
from lion_sweep.models.backbone import Backbone
from lion_sweep.prepare import Workshop
from lion_sweep.retrieval import encoding
from lion_sweep.retrieval.dense import DenseIndex, device_for
from lion_sweep.retrieval.lucene import LuceneImpactIndex
from lion_sweep.retrieval.seismic import SeismicIndex
from lion_sweep.retrieval.sparse import SparseIndex
from lion_sweep.scoring import TREC, Scores, score, write_run
from lion_sweep.stage import Stage, key_of, write_json
from lion_sweep.training.embedding import Encoder

PARTS = "parts"  # of vectors that are not whole yet


@dataclass(frozen=True)
class Tested:
    """What an encoder comes to on a collection: values per query, and the stages behind them."""

    scores: Scores
    searched: Stage
    passages: Stage
    queries: Stage

    def efficiency(self) -> dict[str, float]:
        """What search needs: the index's figures, and seconds of encoding and of search."""
        found: dict[str, float] = dict(self.searched.facts)
        if "L0" in self.passages.facts:
            found["L0_documents"] = self.passages.facts["L0"]
            found["L0_queries"] = self.queries.facts["L0"]
        found["encode_seconds"] = self.passages.seconds + self.queries.seconds
        found["search_seconds"] = self.searched.seconds
        return found


def keep(folder: Path, tested: dict[str, Tested], references: dict[str, Scores]) -> None:
    """Runs and values per query, BM25's too, by the name of the collection."""
    for part in ("runs", "per_query"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, found in tested.items():
        shutil.copyfile(found.searched.folder / TREC, folder / "runs" / f"{name}.trec")
        write_json(folder / "per_query" / f"{name}.json", found.scores)
        write_json(folder / "per_query" / f"{name}.bm25.json", references[name])


class Evaluator:
    """One encoder's stages; its weights are loaded when the first text is to be encoded.

    `identity` is all that tells its vectors from another encoder's; `title` leads its stages'
    names on the progress line.
    """

    def __init__(
        self,
        workshop: Workshop,
        accelerator: Accelerator,
        source: str,
        load: Callable[[], Encoder],
        identity: dict[str, Any],
        *,
        is_sparse: bool,
        title: str = "",
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

    def on(self, collection: Collection, split: str) -> "Tested":
        """Search and score a split of a collection."""
        name = collection.name
        query_length, passage_length = self.evaluation.lengths_of(name)
        documents, queries = collection.documents, collection.queries
        passages = self.encode(documents, None, passage_length, f"passages {name}")
        asked = self.encode(queries, collection.asked(split), query_length, f"queries {name}")
        searched = self.search(collection, split, passages, asked)
        measures = self.evaluation.measures_of(name)
        scores = score(self.workshop, collection, split, searched, measures, self.title)
        return Tested(scores, searched, passages, asked)

    def encode(self, texts: Texts, ids: list[str] | None, length: int, shown: str) -> Stage:
        """Vectors of these texts, in the order of `ids` (None: of all, in their order)."""
        folder = prepare.tokenised(
            self.workshop, f"{shown} tokens", self.source, texts, length, offline=False
        )
        rows = None if ids is None else texts.rows(ids)

        def work(partial: Path) -> dict[str, Any]:
            cached = tokens.read(folder)
            wanted = cached if rows is None else cached.subset(rows)
            wanted.check_within(self.encoder.backbone.language_model.config.vocab_size, self.source)
            meter = self._meter(length)
            batch_tokens = self.evaluation.batch_tokens
            with enough_memory(
                f"encode {shown}", lambda: halved("evaluation.batch_tokens", batch_tokens, length)
            ):
                vectors, spent = encoding.encode(
                    self.encoder,
                    wanted,
                    length,
                    batch_tokens,
                    is_sparse=self.is_sparse,
                    kept_terms=self.evaluation.kept_terms,
                    meter=meter,
                    accelerator=self.accelerator,
                    folder=partial / PARTS,
                    on_batch=self.workshop.progress.step,
                    on_kept=self.workshop.progress.kept,
                )
            if vectors is None:  # another rank leads
                return {}
            encoding.save(partial / "vectors", vectors)
            shutil.rmtree(partial / PARTS)
            planned = meter.texts(wanted.lengths(length), batch_tokens)
            facts: dict[str, Any] = {"planned": planned.as_dict(), "spent": spent.as_dict()}
            facts["parameters"] = sum(p.numel() for p in self.encoder.backbone.parameters())
            if self.is_sparse:
                facts["L0"] = vectors.nnz / vectors.shape[0]
            return facts

        specification = self.identity | {
            "tokens": folder.name,
            "ids": ids and key_of(ids),
            "length": length,
            "batch_tokens": self.evaluation.batch_tokens,
            "kept_terms": self.evaluation.kept_terms if self.is_sparse else None,
        }
        title = f"encode {self.title}{shown}"
        done = self.workshop.run("encode", specification, work, title, together=True)
        self.encoded[done.folder.name] = done
        return done

    def _meter(self, length: int) -> Meter:
        backbone = self.encoder.backbone
        if not isinstance(backbone, Backbone):  # somebody else's model, with an encoder's shape
            return Meter.of_teacher(backbone.language_model.config, length)
        shape = DecoderShape.of(backbone.language_model.config)
        return Meter.of_encoding(shape, length, sparse=self.is_sparse)

    def search(self, collection: Collection, split: str, vectors: Stage, asked: Stage) -> Stage:
        """Search by the chosen engine; writes the run as arrays and as a TREC file."""
        evaluation = self.evaluation

        def work(folder: Path) -> dict[str, Any]:
            ids, vectors_ND = collection.documents.ids, encoding.load(vectors.folder / "vectors")
            index = self._index(ids, vectors_ND, folder)
            queries = encoding.load(asked.folder / "vectors")
            run = index.search(collection.asked(split), queries, evaluation.depth)
            write_run(run, folder, f"lion_sweep-{vectors.key}")
            return index.stats() | ({"flops": flops(queries, vectors_ND)} if self.is_sparse else {})

        specification = {
            "passages": vectors.folder.name,
            "queries": asked.folder.name,
            "documents": collection.documents.checksum,
            "depth": evaluation.depth,
            "engine": self._engine(),
        }
        shown = f"search {self.title}{collection.name}"
        return self.workshop.run("search", specification, work, shown)

    def _engine(self) -> Any:
        """What tells the hits of an engine from those of another."""
        evaluation = self.evaluation
        if not self.is_sparse:
            half = evaluation.dense_precision is DensePrecision.float16
            return "flat-float16" if half else "flat"
        if evaluation.sparse_engine is SparseEngine.seismic:
            return {"seismic": asdict(evaluation.seismic)}
        return evaluation.sparse_engine.name

    def _index(
        self, ids: list[str], vectors: encoding.Vectors, folder: Path
    ) -> DenseIndex | SparseIndex | LuceneImpactIndex | SeismicIndex:
        """The documents' vectors, ready to be searched; `folder` is the stage's."""
        evaluation = self.evaluation
        if not self.is_sparse:
            half = evaluation.dense_precision is DensePrecision.float16
            device, why_not = device_for(vectors.shape, self.accelerator.device, half)
            if why_not:
                self.workshop.progress.say(f"dense search on the CPU: {why_not}")
            return DenseIndex(ids, vectors, device, half)
        if evaluation.sparse_engine is SparseEngine.lucene:
            return LuceneImpactIndex(ids, vectors, folder / "lucene")
        if evaluation.sparse_engine is SparseEngine.seismic:
            return SeismicIndex(ids, vectors, folder / "index", **asdict(evaluation.seismic))
        return SparseIndex(ids, vectors)

    def ledger(self) -> dict[str, Any]:
        """Planned and spent on all texts that this encoder was asked for, each counted once."""
        return {
            kind: sum(
                (Spending(**done.facts[kind]) for done in self.encoded.values()), Spending()
            ).as_dict()
            for kind in ("planned", "spent")
        }


def flops(queries_QV: sparse.csr_matrix, documents_NV: sparse.csr_matrix) -> float:
    """Terms that a query and a document share on average: what exhaustive scoring multiplies.

    Source: Paria et al., Minimizing FLOPs to Learn Efficient Sparse Representations, ICLR 2020.
    """
    share_of_queries_V, share_of_documents_V = (
        matrix.getnnz(axis=0) / matrix.shape[0] for matrix in (queries_QV, documents_NV)
    )
    return float(share_of_queries_V @ share_of_documents_V)
