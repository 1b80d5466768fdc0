"""Texts, judgements and tokens: made once, memory-mapped, known by what they hold.

A token cache is cut at the longest that anybody asks for; what reads it is known by the length that
it reads itself (`Cut`), so that a longer cache changes nothing.
"""

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Config
from lion_sweep.config.data import Data, DataKind, EvaluationSet
from lion_sweep.data import pretrained, pydoc, texts, tokens
from lion_sweep.data.collection import Collection, Judged, judge, write
from lion_sweep.data.marks import MarkedTokens, Marking, marks_of
from lion_sweep.data.places import Place, place
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.texts import Texts
from lion_sweep.data.tokens import Frame, Tokens
from lion_sweep.stages.base import Stage
from lion_sweep.stages.workshop import Workshop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS, JUDGED = "texts", "judgements.arrow"
UNMARKED = Marking()


@dataclass(frozen=True)
class File:
    """A file of a place, or a part of a repository, by what it holds."""

    place: Place
    name: str
    identity: Any

    @classmethod
    def of(cls, shop: Workshop, where: Place, name: str) -> "File":
        """As it is now. Raises `UserError` where it is missing."""
        return cls(where, name, where.identity(name, shop.digests))

    @property
    def plain(self) -> Path | None:
        """The file where it lies as it is, in a folder."""
        return self.place.plain(self.name)


@dataclass(frozen=True, eq=False)
class ImportTexts(Stage):
    """The texts of some files in one Arrow file, so that no command reads them again."""

    kind = "texts"
    RULES = 2

    files: tuple[File, ...]

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        step = shop.progress.step
        blocks = chain.from_iterable(file.place.blocks(file.name, step) for file in self.files)
        source = ", ".join(file.place.where(file.name) for file in self.files)
        return texts.write(blocks, folder / TEXTS, source, shop.progress.kept)

    def read(self, shop: Workshop) -> Texts:
        done = shop.run(self)
        flaws = tuple(done.facts["flaws"].items())
        return _texts(done.folder / TEXTS, done.facts["checksum"], flaws)


_texts = lru_cache(maxsize=64)(texts.read)


@dataclass(frozen=True, eq=False)
class ImportJudgements(Stage):
    """Which passages are relevant to which queries of a split, and so which queries are asked."""

    kind = "judgements"

    file: File
    split: str
    documents: ImportTexts
    queries: ImportTexts

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        read = (stage.read(shop) for stage in (self.documents, self.queries))
        judged = judge(self.file.place, self.file.name, self.split, *read)
        judged.save(folder / JUDGED)
        return {"flaws": judged.flaws, "checksum": judged.checksum}

    def read(self, shop: Workshop) -> Judged:
        done = shop.run(self)
        facts = done.facts["checksum"], tuple(done.facts["flaws"].items())
        return _judged(done.folder / JUDGED, *facts)


@dataclass(frozen=True)
class Asked:
    """The queries that are judged, whatever passages there are."""

    judged: ImportJudgements

    @property
    def identity(self) -> Any:
        judged = self.judged
        return [judged.queries.name, judged.file.identity, judged.split]

    def rows(self, shop: Workshop) -> NDArray[np.int64]:
        return self.judged.read(shop).asked_rows


@lru_cache(maxsize=64)
def _judged(path: Path, checksum: str, flaws: tuple[tuple[str, int], ...]) -> Judged:
    return Judged.read(path, checksum, dict(flaws))


@dataclass(frozen=True)
class Source:
    """The stages that a collection's parts come from; nothing is read yet."""

    name: str
    documents: ImportTexts
    queries: ImportTexts
    judged: Mapping[str, ImportJudgements]  # by split

    @property
    def bytes(self) -> int:
        """Of its files of texts, as far as they lie there as they are."""
        files = (file.plain for file in (*self.documents.files, *self.queries.files))
        return sum(path.stat().st_size for path in files if path)

    def read(self, shop: Workshop) -> Collection:
        judged = {split: stage.read(shop) for split, stage in self.judged.items()}
        return Collection(self.name, self.documents.read(shop), self.queries.read(shop), judged)


Chosen = tuple[Source, str]  # and a split of it
EvaluationSets = dict[str, Chosen]


@dataclass(frozen=True, eq=False)
class DeriveCollection(Stage):
    """The embedded collection, out of the docstrings of packages."""

    kind = "collection"
    RULES = pydoc.RULES

    versions: dict[str, str]  # by package

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        by_split: dict[str, list[tuple[str, str]]] = {"train": [], "dev": [], "test": []}
        for query, passage in pydoc.collect(list(self.versions)):
            by_split[pydoc.split_of(query)].append((query, passage))
        write(folder, by_split)
        return {split: len(rows) for split, rows in by_split.items()}


@cache
def package_version(package: str) -> str:
    """Versions of what ships `package`; Python's own where no distribution does."""
    name = package.split(".")[0]
    if name in sys.stdlib_module_names or name == "stdlib":
        return sys.version.split()[0]
    with suppress(PackageNotFoundError):  # the look-up below reads the metadata of everything
        return version(name)
    return " ".join(map(version, packages_distributions().get(name, [])))


def evaluation_sets(config: Config, shop: Workshop) -> EvaluationSets:
    """(collection, split) of everything that is scored, by name; the cell's own comes first."""
    data, path = config.data, config.data.path
    if data.kind is DataKind.pydoc:
        versions = {package: package_version(package) for package in data.packages}
        path = str(shop.folder(DeriveCollection(versions)))
    assert path is not None  # validation.py
    splits = tuple(dict.fromkeys([data.train_split, data.test_split]))
    sets = {data.name: (collection(shop, data.name, data, path, splits), data.test_split)}
    for name, chosen in config.evaluation.sets.items():
        sets[name] = collection(shop, name, chosen, chosen.path, (chosen.split,)), chosen.split
    return sets


def collection(
    shop: Workshop, name: str, layout: Data | EvaluationSet, path: str, splits: tuple[str, ...]
) -> Source:
    """Of files as they are now. Raises `UserError` where one is missing."""
    where = place(path)

    def imported(names: Iterable[str], title: str) -> ImportTexts:
        files = tuple(File.of(shop, where, name) for name in dict.fromkeys(names))
        return ImportTexts(files, title=title)

    documents = imported([layout.corpus], f"corpus {name}")
    queries = imported((layout.queries.format(split=s) for s in splits), f"queries {name}")
    judged = {}
    for split in splits:
        file, title = layout.qrels.format(split=split), f"judgements {name} {split}"
        of_split = File.of(shop, where, file), split, documents, queries
        judged[split] = ImportJudgements(*of_split, title=title)
    return Source(name, documents, queries, judged)


def tokenizer_of(source: "Pretrained | Stage", shop: Workshop) -> "PreTrainedTokenizerBase":
    """Raises `UserError` where it cannot be read."""
    if isinstance(source, Stage):
        return pretrained.tokenizer_of(str(shop.folder(source)))
    return source.load_tokenizer()


@dataclass(frozen=True, eq=False)
class Tokenise(Stage):
    kind = "tokens"
    RULES = 3  # 3: also how many tokens begin a text

    texts: ImportTexts
    tokenizer: Pretrained | Stage  # a stage that leaves one in its folder
    length: int
    prompt: str = ""  # before every text
    special_tokens: bool = True  # those that the tokenizer puts around a text
    append_eos: bool = False  # after every text, where they do not end in it

    @property
    def frame(self) -> Frame:
        return Frame(self.prompt, self.special_tokens, self.append_eos)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        texts, tokenizer = self.texts.read(shop), tokenizer_of(self.tokenizer, shop)
        how = self.length, self.frame, shop.progress.kept_step
        return {"tokens": tokens.write(folder, texts, tokenizer, *how)}

    def cut(self, length: int, *, echo: bool = False) -> "Cut":
        """These tokens to somebody who reads `length` of each text at most, or of it twice."""
        assert length <= self.length
        return Cut(self, length, echo)


@dataclass(frozen=True)
class Cut:
    """Every text, cut at `length` tokens; with `echo` its body twice, both copies cut."""

    cache: Tokenise
    length: int
    echo: bool = False
    marking: Marking = UNMARKED

    @property
    def identity(self) -> dict[str, Any]:
        """As that of a cache that is cut there."""
        cut = replace(self.cache, length=self.length).specification
        twice = {"echo": True} if self.echo else {}
        return cut | twice | ({"marking": asdict(self.marking)} if self.marking else {})

    def marked(self, marking: Marking) -> "Cut":
        """The same with marks on the tokens."""
        return replace(self, marking=marking)

    def read(self, shop: Workshop) -> Tokens:
        """The cache, whose texts may be longer."""
        found = tokens.read(shop.folder(self.cache), echo=self.echo)
        if not self.marking:
            return found
        tokenizer = tokenizer_of(self.cache.tokenizer, shop)
        return MarkedTokens.of(found, marks_of(self.marking, tokenizer))

    def lengths(self, shop: Workshop) -> NDArray[np.int64]:
        """Tokens of every text, [N]."""
        unmarked = tokens.read(shop.folder(self.cache), echo=self.echo)
        return self.marking.lengths(unmarked, self.length)
