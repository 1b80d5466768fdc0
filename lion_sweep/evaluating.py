"""Scoring an encoder on collections: encode, search, score, each a stage that is done once.

Vectors are found by the texts they are of, so collections with equal texts are encoded once.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from scipy import sparse

from lion_sweep.config_data import DensePrecision, SparseEngine
from lion_sweep.data.collection import Collection
from lion_sweep.encoding_stages import EncodingStages
from lion_sweep.prepare import Workshop
from lion_sweep.retrieval import encoding
from lion_sweep.retrieval.dense import DenseIndex, device_for
from lion_sweep.retrieval.lucene import LuceneImpactIndex
from lion_sweep.retrieval.seismic import SeismicIndex
from lion_sweep.retrieval.sparse import SparseIndex
from lion_sweep.scoring import TREC, Scores, score, write_run
from lion_sweep.stage import Stage, write_json
from lion_sweep.training.embedding import Encoder


@dataclass(frozen=True)
class Tested:
    """What an encoder comes to on a collection: values per query, and the stages behind them."""

    scores: Scores
    searched: Stage
    passages: Stage
    queries: Stage

    def efficiency(self) -> dict[str, float]:
        """What search needs: the index's figures, and seconds of encoding and of search.

        Those of encoding are the wall-clock time of one job; of several, of all added up.
        """
        found: dict[str, float] = dict(self.searched.facts)
        if "L0" in self.passages.facts:
            found["L0_documents"] = self.passages.facts["L0"]
            found["L0_queries"] = self.queries.facts["L0"]
        found["encode_seconds"] = sum(
            encoded.facts.get("seconds", encoded.seconds)
            for encoded in (self.passages, self.queries)
        )
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
        self.identity, self.is_sparse, self.title = identity, is_sparse, title
        self.vectors = EncodingStages(
            workshop, accelerator, source, load, identity, is_sparse=is_sparse, title=title
        )

    def on(self, collection: Collection, split: str) -> "Tested":
        """Search and score a split of a collection."""
        name = collection.name
        query_length, passage_length = self.evaluation.lengths_of(name)
        documents, queries = collection.documents, collection.queries
        passages = self.vectors.whole(documents, None, passage_length, f"passages {name}")
        ids = collection.asked(split)
        asked = self.vectors.whole(queries, ids, query_length, f"queries {name}")
        searched = self.search(collection, split, passages, asked)
        measures = self.evaluation.measures_of(name)
        scores = score(self.workshop, collection, split, searched, measures, self.title)
        return Tested(scores, searched, passages, asked)

    def share_passages(self, collection: Collection) -> int:
        """Encode what no other job is at of a large collection; returns how many shards it was."""
        _, length = self.evaluation.lengths_of(collection.name)
        return self.vectors.share(collection.documents, length, f"passages {collection.name}")

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


def flops(queries_QV: sparse.csr_matrix, documents_NV: sparse.csr_matrix) -> float:
    """Terms that a query and a document share on average: what exhaustive scoring multiplies.

    Source: Paria et al., Minimizing FLOPs to Learn Efficient Sparse Representations, ICLR 2020.
    """
    share_of_queries_V, share_of_documents_V = (
        matrix.getnnz(axis=0) / matrix.shape[0] for matrix in (queries_QV, documents_NV)
    )
    return float(share_of_queries_V @ share_of_documents_V)
