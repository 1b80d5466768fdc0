"""What an engine is: it builds an index of a collection's vectors, or words, and searches it.

An engine is a class of its own and a line in a YAML: `engine.kinds` says which one searches the
vectors of which kind (models/encoders.py), and its settings.

What engines share is here too: checks of input, the exact top k under the rule of ties, what is
missed. A document's number in a run says where its id sorts. Shapes: N documents, M candidates
(M <= N), Q queries, K hits, P pairs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from lion_sweep.data.ids import Ids
from lion_sweep.search.runs import Ranked, Run

WORDS = "words"  # the kind that texts themselves are


@dataclass(frozen=True)
class Where:
    """What an index may use: a folder of its own, the device that is at hand, the cell's log."""

    folder: Path
    device: torch.device
    say: Callable[[str], None]
    step: Callable[[int, int], None] = lambda done, total: None  # how much of how much is done


class Engine(ABC):
    """Base of every engine. Its constructor takes ids and documents as `over` does, and settings.

    Both raise `ValueError` where there are no documents, an id occurs twice, the numbers of ids and
    documents differ, or vectors or texts cannot be indexed.
    """

    RULES: ClassVar[int] = 1  # raised when other hits come out of the same vectors
    exact: ClassVar[bool] = False  # whether it finds what exhaustive scoring of the vectors finds
    streams: ClassVar[bool] = False  # whether it takes `Stored` vectors as they are
    keeps: ClassVar[bool] = False  # whether `over` opens what it has built in the folder before
    _stats: dict[str, float] = {}  # noqa: RUF012 - engines have their own

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run on this machine, and what to do; nothing where it can."""
        return ""

    @classmethod  # noqa: B027 - most have nothing to check
    def check(cls, key: str, settings: Mapping[str, Any]) -> None:
        """Refuse settings that are impossible, as `UserError`; `key` leads to them."""

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        """The index of N documents: [N, ...] vectors in the order of the ids, or N texts."""
        return cls(document_ids, documents, **settings)  # type: ignore[call-arg]

    @abstractmethod
    def search(self, query_ids: Sequence[str], queries: Any, k: int) -> Run:
        """The k best documents of each query, equal scores by id; fewer where fewer are found.

        `queries` are [Q, ...] vectors, or Q texts, in the order of the ids. Raises `ValueError`
        where k is below 1, an id occurs twice, the numbers of ids and queries differ, or vectors
        do not fit those of the documents.
        """

    def stats(self) -> dict[str, float]:
        """What a report tells: `index_bytes`, `agreement` with exact search where hits may miss."""
        return dict(self._stats)


class StreamingEngine(Engine):
    """An engine that reads stored vectors block by block, on CUDA where it is at hand."""

    streams = True
    on_block: Callable[[int, int], None] = staticmethod(lambda done, total: None)
    _folder: Path | None = None  # where a search that is killed has what it came to

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        """On the CPU where there is no CUDA."""
        device = where.device if where.device.type == "cuda" else torch.device("cpu")
        made = cls(document_ids, documents, device, **settings)  # type: ignore[call-arg]
        made.on_block, made._folder = where.step, where.folder
        return made


class WordsIndex(Engine):
    """An engine for words that negatives can be mined with: it tells scores of any pair too."""

    keeps = True
    ids: Ids

    @abstractmethod
    def found(
        self, texts: Sequence[str], k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
        """The k best documents of each text, best first: ranks of their ids, and scores, [Q, K].

        K is k, or the number of documents where there are fewer; -1 and -inf stand after the last.
        """

    @abstractmethod
    def scores(
        self, texts: Sequence[str], query_P: NDArray[np.integer], document_P: NDArray[np.integer]
    ) -> NDArray[np.floating[Any]]:
        """The score of each pair of a text's and a document's number, [P]."""

    def search(self, query_ids: Sequence[str], queries: Sequence[str], k: int) -> Run:
        """Return the k documents of highest score above 0 for each query text."""
        check_queries(query_ids, len(queries), k)
        return Run(list(query_ids), self.ids.ascending, *self.found(queries, k))


def checked_ids(document_ids: Sequence[str], rows: int) -> Ids:
    """The ids of an index.

    Raises `ValueError` where there is none, an id occurs twice, or there are not `rows` of them.
    """
    ids = Ids.of(document_ids)
    if not len(ids):
        raise ValueError("an index needs at least one document")
    if len(ids) != rows:
        raise ValueError(f"{len(ids)} document ids for {rows} documents")
    if ids.repeated is not None:
        raise ValueError(f"document id {ids.repeated!r} occurs more than once")
    return ids


def sorted_documents(document_ids: Sequence[str], rows: int) -> tuple[Ids, NDArray[np.int64]]:
    """Return the ids in ascending order and, [N], the row each of them came from.

    Raises `ValueError` as `checked_ids` does.
    """
    ids = checked_ids(document_ids, rows)
    return ids.ascending, ids.order_N


def check_queries(query_ids: Sequence[str], rows: int, k: int) -> None:
    """Raise `ValueError` where k is below 1, an id occurs twice, or there are not `rows` ids."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if len(query_ids) != rows:
        raise ValueError(f"{len(query_ids)} query ids for {rows} queries")
    if len(set(query_ids)) != rows:
        raise ValueError("a query id occurs more than once")


def best(documents_M: NDArray[np.integer], scores_M: NDArray[np.floating], k: int) -> Ranked:
    """Return numbers and scores of the k best candidates under the rule of ties; fewer if M < k."""
    if len(scores_M) > k:
        kth = np.partition(scores_M, -k)[-k]
        # Every document tied with the k-th competes for the last places.
        competing = scores_M >= kth
        documents_M, scores_M = documents_M[competing], scores_M[competing]
    order = np.lexsort((documents_M, -scores_M))[:k]
    return documents_M[order], scores_M[order]


def agreement(found: Run, exact: Run) -> dict[str, float]:
    """Return the shares of exact search's hits that another search has found.

    agreement_10 is of the first 10 hits of both, agreement of all; each is averaged over the
    queries for which exact search has hits, and neither is there where it has none.
    """
    known = set(found.query_ids)
    pairs = [
        (hits, found.hits(query_id) if query_id in known else [])
        for query_id in exact.query_ids
        if (hits := exact.hits(query_id))
    ]
    if not pairs:
        return {}

    def shared(k: int | None) -> float:
        tops = [(dict(own[:k]).keys(), dict(theirs[:k]).keys()) for own, theirs in pairs]
        return float(np.mean([len(own & theirs) / len(own) for own, theirs in tops]))

    return {"agreement_10": shared(10), "agreement": shared(None)}
