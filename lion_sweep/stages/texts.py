"""Texts, judgements and tokens: made once, memory-mapped, known by what they hold.

A token cache is cut at the longest that anybody asks for; what reads it is known by the length that
it reads itself (`Cut`), so that a longer cache changes nothing.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lion_sweep.config import Config
from lion_sweep.config.data import Data, DataKind, EvaluationSet
from lion_sweep.data import pydoc, texts, tokens
from lion_sweep.data.collection import Collection, Flaws, Qrels, read_qrels, write
from lion_sweep.data.places import Place, place
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.texts import Texts
from lion_sweep.data.tokens import Tokens
from lion_sweep.errors import UserError
from lion_sweep.files import key_of
from lion_sweep.stages.base import Stage
from lion_sweep.stages.workshop import Workshop

Chosen = tuple[Collection, str]  # and a split of it
EvaluationSets = dict[str, Chosen]

TEXTS = "texts"


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
) -> Collection:
    """Texts and judgements, imported where they are not yet. Raises `UserError`."""
    where = place(path)
    queries = dict.fromkeys(layout.queries.format(split=split) for split in splits)

    def imported(names: Sequence[str], title: str) -> Texts:
        files = tuple(File.of(shop, where, name) for name in names)
        done = shop.run(ImportTexts(files, title=title))
        flaws = tuple(done.facts["flaws"].items())
        return _texts(done.folder / TEXTS, done.facts["checksum"], flaws)

    read = imported([layout.corpus], f"corpus {name}"), imported(list(queries), f"queries {name}")
    judged = [where.identity(layout.qrels.format(split=split), shop.digests) for split in splits]
    return Collection(name, *read, *_qrels(path, layout.qrels, splits, *read, str(judged)))


_texts = lru_cache(maxsize=64)(texts.read)


@lru_cache(maxsize=64)
def _qrels(
    path: str, name: str, splits: tuple[str, ...], documents: Texts, queries: Texts, known_by: str
) -> tuple[dict[str, Qrels], dict[str, Flaws]]:
    """`known_by` tells the judgements that are there now from those that were."""
    return read_qrels(place(path), name, splits, documents, queries)


@dataclass(frozen=True)
class Asked:
    """Some of the queries, in an order."""

    queries: Texts
    ids: list[str]

    @property
    def identity(self) -> list[str]:
        return [self.queries.identity, key_of(self.ids)]

    @property
    def rows(self) -> NDArray[np.int64]:
        return self.queries.rows(self.ids)


@dataclass(frozen=True, eq=False)
class Tokenise(Stage):
    kind = "tokens"
    RULES = 2  # 2: cut texts end in their tokenizer's special tokens

    texts: Texts
    tokenizer: Pretrained
    length: int
    prompt: str = ""  # before every text

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        tokenizer = self.tokenizer.load_tokenizer()
        step, how = shop.progress.step, (self.length, self.prompt)
        return {"tokens": tokens.write(folder, self.texts, tokenizer, *how, step)}

    def cut(self, length: int) -> "Cut":
        """These tokens to somebody who reads `length` of each text at most."""
        assert length <= self.length
        return Cut(self, length)


@dataclass(frozen=True)
class Cut:
    """Every text, cut at `length` tokens."""

    cache: Tokenise
    length: int

    @property
    def identity(self) -> dict[str, Any]:
        """As that of a cache that is cut there."""
        return replace(self.cache, length=self.length).specification

    def read(self, shop: Workshop) -> Tokens:
        """The cache, whose texts may be longer. Raises `UserError` where it is of other texts."""
        folder = shop.folder(self.cache)
        found = tokens.read(folder)
        if len(found) != len(self.cache.texts):
            raise UserError(
                f"{folder} holds the tokens of {len(found)} texts, but there are "
                f"{len(self.cache.texts)}: delete the folder."
            )
        return found

    def lengths(self, shop: Workshop) -> NDArray[np.int64]:
        """Tokens of every text, [N]."""
        return self.read(shop).lengths(self.length)
