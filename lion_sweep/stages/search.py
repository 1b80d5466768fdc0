"""Searching vectors, or words by BM25: a stage leaves a run, as arrays and as a TREC file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy import sparse

from lion_sweep.config.data import BM25Engine, DensePrecision, Evaluation, SparseEngine
from lion_sweep.data.texts import Texts
from lion_sweep.search.runs import Run, drop_self_hits, write_trec
from lion_sweep.stages.backbone import Asked
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.encode import VECTORS, Encode
from lion_sweep.stages.workshop import Workshop

RUN, TREC = "run.npz", "run.trec"
FLAT, HALF = "flat", "flat-float16"


def engine_of(evaluation: Evaluation, is_sparse: bool) -> Mapping[str, Any]:
    """The engine that searches such vectors, by name, with what it reads."""
    if not is_sparse:
        half = evaluation.dense_precision is DensePrecision.float16
        return {"name": HALF if half else FLAT}
    engine = evaluation.sparse_engine
    settings = asdict(evaluation.seismic) if engine is SparseEngine.seismic else {}
    return {"name": engine.name, **settings}


@dataclass(frozen=True, eq=False)
class Search(Stage):
    """The `depth` best documents of every query."""

    kind = "search"

    passages: Encode
    queries: Encode
    documents: Texts
    asked: Asked
    engine: Mapping[str, Any]
    depth: int
    title: str = beside()

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """The index's figures; of sparse vectors also what exhaustive scoring multiplies."""
        from lion_sweep.search import encoding

        documents_N, queries_Q = (
            encoding.load(shop.folder(encode) / VECTORS) for encode in (self.passages, self.queries)
        )
        index = self._index(shop, documents_N, folder)
        run = index.search(self.asked.ids, queries_Q, self.depth)
        write_run(run, folder, f"lion_sweep-{self.passages.name.removeprefix('encode-')}")
        stats: dict[str, Any] = index.stats()
        return stats | ({"flops": flops(queries_Q, documents_N)} if self.passages.sparse else {})

    def _index(self, shop: Workshop, vectors: Any, folder: Path) -> Any:
        """The documents' vectors, ready to be searched; `folder` is the stage's."""
        name = self.engine["name"]
        settings = {key: value for key, value in self.engine.items() if key != "name"}
        if name in (FLAT, HALF):
            from lion_sweep.search.dense import DenseIndex, device_for

            half, wanted = name == HALF, shop.execution.accelerator.device
            device, why_not = device_for(vectors.shape, wanted, half)
            if why_not:
                shop.progress.say(f"dense search on the CPU: {why_not}")
            return DenseIndex(self.documents.ids, vectors, device, half)
        if name == SparseEngine.lucene.name:
            from lion_sweep.search.lucene import LuceneImpactIndex

            return LuceneImpactIndex(self.documents.ids, vectors, folder / "lucene")
        if name == SparseEngine.seismic.name:
            from lion_sweep.search.seismic import SeismicIndex

            return SeismicIndex(self.documents.ids, vectors, folder / "index", **settings)
        from lion_sweep.search.sparse import SparseIndex

        return SparseIndex(self.documents.ids, vectors)


@dataclass(frozen=True, eq=False)
class SearchBM25(Stage):
    """The same by BM25 over the words."""

    kind = "search"

    documents: Texts
    asked: Asked
    engine: BM25Engine
    depth: int
    title: str = beside()

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Nothing to tell."""
        ids, texts = self.documents.ids, self.documents.all()
        index: Any
        if self.engine is BM25Engine.lucene:
            from lion_sweep.search.bm25_lucene import LuceneBM25Index

            index = LuceneBM25Index(ids, texts, folder / "lucene")
        else:
            from lion_sweep.search.bm25 import BM25Index

            index = BM25Index(ids, texts)
        queries = self.asked.queries.of(self.asked.ids)
        write_run(index.search(self.asked.ids, queries, self.depth), folder, "bm25")
        return {}


def write_run(run: Run, folder: Path, tag: str) -> None:
    """The run as arrays, which scoring reads, and for others; no query finds itself."""
    run = drop_self_hits(run)
    run.save(folder / RUN)
    write_trec(run, folder / TREC, tag)


def flops(queries_QV: sparse.csr_matrix, documents_NV: sparse.csr_matrix) -> float:
    """Terms that a query and a document share on average: what exhaustive scoring multiplies.

    Source: Paria et al., Minimizing FLOPs to Learn Efficient Sparse Representations, ICLR 2020.
    """
    share_of_queries_V, share_of_documents_V = (
        matrix.getnnz(axis=0) / matrix.shape[0] for matrix in (queries_QV, documents_NV)
    )
    return float(share_of_queries_V @ share_of_documents_V)
