"""Searching vectors, or words by BM25: a stage leaves a run, as arrays and as a TREC file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from scipy import sparse

from lion_sweep.config import Config
from lion_sweep.data.texts import Texts
from lion_sweep.search.base import Engine, Where
from lion_sweep.search.runs import Run, drop_self_hits, write_trec
from lion_sweep.stages.backbone import Asked
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.encode import VECTORS, Encode
from lion_sweep.stages.workshop import Workshop

RUN, TREC = "run.npz", "run.trec"
RULES = "rules"


def engine_of(config: Config, kind: str) -> Mapping[str, Any]:
    """What searches such vectors, or words: a class, its RULES and what it reads."""
    chosen = config.engine.of(kind, config.paradigm.name)
    engine: type[Engine] = get_class(chosen["_target_"])
    return {**chosen, RULES: engine.RULES}


def index(engine: Mapping[str, Any], ids: Sequence[str], documents: Any, where: Where) -> Engine:
    """Documents' vectors, or texts, ready to be searched."""
    settings = {key: value for key, value in engine.items() if key not in (RULES, "_target_")}
    made: type[Engine] = get_class(engine["_target_"])
    return made.over(ids, documents, where, **settings)


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
        where = Where(folder, shop.execution.accelerator.device, shop.progress.say)
        built = index(self.engine, self.documents.ids, documents_N, where)
        run = built.search(self.asked.ids, queries_Q, self.depth)
        write_run(run, folder, f"lion_sweep-{self.passages.name.removeprefix('encode-')}")
        stats: dict[str, Any] = built.stats()
        return stats | ({"flops": flops(queries_Q, documents_N)} if self.passages.sparse else {})


@dataclass(frozen=True, eq=False)
class SearchWords(Stage):
    """The same over words, by BM25 as a rule."""

    kind = "search"

    documents: Texts
    asked: Asked
    engine: Mapping[str, Any]
    depth: int
    title: str = beside()

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Nothing to tell."""
        where = Where(folder, torch.device("cpu"), shop.progress.say)  # a plan has no other
        built = index(self.engine, self.documents.ids, self.documents.all(), where)
        queries = self.asked.queries.of(self.asked.ids)
        write_run(built.search(self.asked.ids, queries, self.depth), folder, "bm25")
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
