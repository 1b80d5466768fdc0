"""BM25 over raw texts as a sparse dot product: English stop words, Snowball stems.

words/000123.npz   how often each stem occurs in the texts of a block, until the index is there
stems.arrow        the vocabulary, by number
000123.npy         posting lists (postings.py); a weight is the whole score of a term in a document

Shapes: N documents, V vocabulary, T terms of all queries, M pairs.
"""

import shutil
from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import feather
from scipy import sparse

from lion_sweep.data.ids import Ids
from lion_sweep.data.texts import Texts
from lion_sweep.files import written
from lion_sweep.machine import interruption
from lion_sweep.machine.workers import spread
from lion_sweep.search import postings
from lion_sweep.search.base import Where, WordsIndex, checked_ids
from lion_sweep.search.postings import Postings, Queries, Step
from lion_sweep.search.words import Numbers, count

STEMS = "stems.arrow"


class BM25Index(WordsIndex):
    """BM25 as Lucene computes it, with exact document lengths (Kamphuis et al., ECIR 2020).

    Terms are lower-cased runs of two or more word characters. Scores are those of bm25s, to the
    bit: float32 sums in the order of the query's words, of which each counts as often as it occurs.
    """

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        folder = where.folder / "bm25"
        build(folder, documents, where.step, **settings)
        return cls(document_ids, folder)

    def __init__(self, document_ids: Sequence[str], folder: Path) -> None:
        """Open what `build` has built of the documents with these ids."""
        self.postings = Postings.open(folder)
        self.ids = checked_ids(document_ids, len(self.postings))
        self._stems = Ids(feather.read_table(folder / STEMS, memory_map=True)["stem"])
        self._stats = self.postings.stats

    def queries(self, texts: Sequence[str]) -> Queries:
        """Queries in terms of the index; words that no document has are left out."""
        numbers = Numbers()
        start_Q, stem_T = numbers.of(texts)
        term_T = self._stems.rows(list(numbers.stems))[stem_T]
        known = np.append(0, np.cumsum(term_T >= 0))
        term_T = term_T[term_T >= 0].astype(np.uint32)
        return Queries(known[start_Q], term_T, np.ones(len(term_T), dtype=np.float32))

    def found(
        self, texts: Sequence[str], k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.floating[Any]]]:
        return self.postings.search(self.queries(texts), k, self.ids.rank_N)

    def scores(
        self, texts: Sequence[str], query_P: NDArray[np.integer], document_P: NDArray[np.integer]
    ) -> NDArray[np.floating[Any]]:
        found = self.postings.scores(self.queries(texts), query_P, document_P)
        return found.astype(np.float32, copy=False)


class _Left(Sequence[tuple[Path, Sequence[str]]]):
    """Blocks of texts whose words are not counted yet, with the files to count them to."""

    def __init__(self, texts: Texts | Sequence[str], files: Mapping[int, Path]) -> None:
        self._texts, self._files = texts, [item for item in files.items() if not item[1].exists()]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: Any) -> Any:
        start, file = self._files[place]
        rows = range(start, min(start + postings.BLOCK, len(self._texts)))
        if isinstance(self._texts, Texts):
            return file, self._texts.take(rows)
        return file, self._texts[rows.start : rows.stop]


def build(
    folder: Path,
    texts: Texts | Sequence[str],
    on_step: Step = lambda done, total: None,
    k1: float = 0.9,
    b: float = 0.4,
) -> None:
    """Build the index of N texts, on all cores; goes on where it was stopped.

    k1, the saturation of term frequency, and b, the strength of length normalisation (0 to 1),
    default to the values of the MS MARCO baselines of Anserini and BEIR. `on_step` hears of 2 N
    steps. Raises `ValueError` where no text holds a term, `Interrupted` where the job is asked to
    stop.
    """
    total, words = len(texts), folder / "words"
    if (folder / postings.STATS).exists():
        shutil.rmtree(words, ignore_errors=True)
        return
    words.mkdir(parents=True, exist_ok=True)
    files = {start: words / f"{start:09}.npz" for start in range(0, total, postings.BLOCK)}
    left = _Left(texts, files)
    for done, _ in enumerate(spread(count, left), start=len(files) - len(left) + 1):
        on_step(min(done * postings.BLOCK, total), 2 * total)
        if interruption.requested():
            raise interruption.stop()
    weigher = _Weigher(files, total, k1, b)
    with written(folder / STEMS, only_writer=True) as temporary:
        table = pa.table({"stem": pa.array(weigher.stems, type=pa.large_string())})
        feather.write_feather(table, str(temporary), compression="uncompressed")
    shape = total, len(weigher.stems)
    Postings.write(folder, weigher.rows, shape, lambda done, _: on_step(total + done, 2 * total))
    shutil.rmtree(words)


class _Weigher:
    """Weights of terms in documents, out of counts."""

    def __init__(self, files: Mapping[int, Path], documents: int, k1: float, b: float) -> None:
        self._files, self._k1, self._b = files, k1, b
        self.stems: dict[str, int] = {}  # by first occurrence, whoever counted it
        self._number: dict[int, NDArray[np.int32]] = {}  # of a block's own numbers
        tokens, frequency_V = 0, np.zeros(0, dtype=np.int64)
        for start, file in files.items():
            with np.load(file) as counted:
                own = counted["stems"].tobytes().decode().split("\n")
                self._number[start] = np.array(
                    [self.stems.setdefault(stem, len(self.stems)) for stem in own if stem],
                    dtype=np.int32,
                )
                frequency_V = np.pad(frequency_V, (0, len(self.stems) - len(frequency_V)))
                frequency_V[self._number[start]] += np.bincount(counted["numbers"])
                tokens += int(counted["lengths"].sum(dtype=np.int64))
        if not self.stems:
            raise ValueError("no document text holds a term to index")
        self._mean = tokens / documents
        idf = (log(1 + (documents - f + 0.5) / (f + 0.5)) for f in frequency_V.tolist())
        self._idf_V = np.fromiter(idf, dtype=np.float32, count=len(frequency_V))

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """Of a block of documents, rounded where bm25s rounds."""
        with np.load(self._files[start]) as counted:
            lengths_N, counts, starts_N = (counted[n] for n in ("lengths", "counts", "starts"))
            terms = self._number[start][counted["numbers"]]
        normal_N = self._k1 * ((1 - self._b) + self._b * lengths_N / self._mean)
        saturation = counts / (np.repeat(normal_N, np.diff(starts_N)) + counts)
        weights = (self._idf_V[terms] * saturation).astype(np.float32)
        shape = stop - start, len(self.stems)
        return sparse.csr_matrix((weights, terms, starts_N.astype(np.int64)), shape)
