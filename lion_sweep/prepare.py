"""What cells share before anything trains: collection, token cache, training groups, teacher."""

import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig
from transformers.utils import cached_file

from lion_sweep import interruption, stage
from lion_sweep.config import Config
from lion_sweep.config_data import Data, DataKind, EvaluationSet
from lion_sweep.data import given, pydoc, texts, tokens
from lion_sweep.data.collection import Collection, read_qrels, write
from lion_sweep.data.groups import MISSING, Groups, mine
from lion_sweep.data.places import Place, place
from lion_sweep.data.teacher import Encoder, encoder_source, teach
from lion_sweep.data.texts import Texts
from lion_sweep.errors import Busy, UserError
from lion_sweep.meter import Meter, Spending
from lion_sweep.progress import Progress
from lion_sweep.stage import Alone, Stage, Team, key_of
from lion_sweep.validation import needs_teacher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EvaluationSets = dict[str, tuple[Collection, str]]

GROUPS = "groups.npz"
TEXTS = "texts.arrow"


class Workshop:
    """Runs stages below `paths.root` and shows them on the progress line.

    `owner` names whose locks are meant to be fenced off, `team` the processes that work together.
    """

    def __init__(
        self, config: Config, progress: Progress, owner: str = "", team: Team | None = None
    ) -> None:
        self.config, self.owner, self.team = config, owner, team or Alone()
        self.root = Path(config.paths.root)
        self.progress = progress
        self.stages: dict[str, Stage] = {}

    def run(
        self,
        name: str,
        specification: dict[str, Any],
        work: Callable[[Path], dict[str, Any]],
        shown: str = "",
        together: bool = False,
        wait: bool = True,
    ) -> Stage:
        """One stage; `shown` tells apart several of a name, `together` is work for all ranks.

        What this workshop has had before is not looked up, nor logged, again.
        Raises what `stage.run` raises, so `Busy` where it is not to `wait` for another process.
        """
        title = shown or name
        if interruption.requested():
            raise interruption.stop()
        known = self.stages.get(title)
        if known and known.folder.name == stage.name_of(name, specification):
            return known
        self.progress.begin(title)
        try:
            done = stage.run(
                self.root, name, specification, work, self.owner, self.team, together, wait
            )
        except Busy:
            self.progress.leave(title)
            raise
        self.progress.end(title, done.seconds, done.reused)
        self.stages[title] = done
        return done

    def finished(self, name: str, specification: dict[str, Any]) -> bool:
        """Whether a stage is finished, the same to all ranks."""
        found: Stage | None = self.team.tell(stage.find(self.root, name, specification))
        return found is not None

    def remove(self, name: str, specification: dict[str, Any], shown: str) -> None:
        """Delete a stage that nothing reads any more."""
        self.stages.pop(shown, None)
        if self.team.leads:
            stage.remove(self.root, name, specification)


@cache
def package_version(package: str) -> str:
    """Versions of what ships `package`; Python's own where no distribution does."""
    name = package.split(".")[0]
    if name in sys.stdlib_module_names or name == "stdlib":
        return sys.version.split()[0]
    with suppress(PackageNotFoundError):  # the look-up below reads the metadata of everything
        return version(name)
    return " ".join(map(version, packages_distributions().get(name, [])))


def collection(workshop: Workshop) -> Collection:
    """The collection that the cell trains on, derived first where it is the embedded one."""
    data = workshop.config.data
    path = data.path
    if data.kind is DataKind.pydoc:
        path = str(_derived(workshop).folder)
    assert path is not None  # validation.py
    splits = dict.fromkeys([data.train_split, data.test_split])
    return _collection(workshop, data.name, data, path, tuple(splits))


def evaluation_sets(workshop: Workshop) -> EvaluationSets:
    """(collection, split) of everything that is scored, by name; the cell's own comes first."""
    data, sets = workshop.config.data, workshop.config.evaluation.sets
    others = {
        name: (_collection(workshop, name, chosen, chosen.path, (chosen.split,)), chosen.split)
        for name, chosen in sets.items()
    }
    return {data.name: (collection(workshop), data.test_split)} | others


def contents(workshop: Workshop) -> dict[str, str]:
    """Checksum of everything that is scored, by name."""
    return {name: tested.checksum for name, (tested, _) in evaluation_sets(workshop).items()}


def _derived(workshop: Workshop) -> Stage:
    packages = workshop.config.data.packages

    def derive(folder: Path) -> dict[str, Any]:
        by_split: dict[str, list[tuple[str, str]]] = {"train": [], "dev": [], "test": []}
        for query, passage in pydoc.collect(packages):
            by_split[pydoc.split_of(query)].append((query, passage))
        write(folder, by_split)
        return {split: len(rows) for split, rows in by_split.items()}

    versions = {package: package_version(package) for package in packages}
    return workshop.run("collection", {"pydoc": versions, "rules": pydoc.RULES}, derive)


def _collection(
    workshop: Workshop, name: str, layout: Data | EvaluationSet, path: str, splits: tuple[str, ...]
) -> Collection:
    where = place(path)
    queries = dict.fromkeys(layout.queries.format(split=split) for split in splits)
    corpus = _imported(workshop, where, [layout.corpus], f"corpus {name}")
    asked = _imported(workshop, where, list(queries), f"queries {name}")
    return _assembled(name, path, corpus, asked, layout.qrels, splits)


def _imported(workshop: Workshop, where: Place, names: list[str], shown: str) -> Path:
    """Folder of the texts of some files in one Arrow file, so that no command reads them again."""

    def work(folder: Path) -> dict[str, Any]:
        pairs = chain.from_iterable(map(where.texts, names))
        return texts.write(pairs, folder / TEXTS, ", ".join(map(where.where, names)))

    signatures = [where.signature(name) for name in names]
    return workshop.run("texts", {"from": signatures}, work, shown).folder


@lru_cache(maxsize=64)
def _assembled(
    name: str, path: str, corpus: Path, queries: Path, qrels: str, splits: tuple[str, ...]
) -> Collection:
    documents, asked = _texts(corpus), _texts(queries)
    return Collection(
        name, documents, asked, read_qrels(place(path), qrels, splits, documents, asked)
    )


@lru_cache(maxsize=64)
def _texts(folder: Path) -> Texts:
    return texts.read(folder / TEXTS, stage.facts(folder))


@lru_cache(maxsize=4)
def tokenizer_of(source: str, offline: bool = False) -> "PreTrainedTokenizerBase":
    """The backbone's tokenizer; `offline` takes files that are on this machine alone."""
    from transformers import AutoTokenizer  # takes a second, and a warm token cache needs none

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, local_files_only=offline
        )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{source} has no tokenizer that can be read: {reason}") from None
    return tokenizer


@lru_cache(maxsize=8)
def tokenizer_key(source: str, offline: bool = False) -> str:
    """What tells a tokenizer from others: its file, or its vocabulary where it has no such file.

    Raises `OSError` where neither can be had.
    """
    file = cached_file(
        source,
        "tokenizer.json",
        local_files_only=offline,
        _raise_exceptions_for_missing_entries=False,
    )
    if file is None:
        return key_of(tokenizer_of(source, offline).get_vocab())
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def tokenised(
    workshop: Workshop, shown: str, source: str, asked: Texts, length: int, offline: bool = False
) -> Path:
    """Folder of the tokens of texts, cut at `length`."""

    def tokenise(folder: Path) -> dict[str, Any]:
        return {
            "tokens": tokens.write(folder, asked.batches(), tokenizer_of(source, offline), length)
        }

    specification = {
        "texts": asked.checksum,
        "tokenizer": tokenizer_key(source, offline),
        "length": length,
    }
    folder = workshop.run("tokens", specification, tokenise, shown).folder
    if (found := len(tokens.read(folder))) != len(asked):
        raise UserError(
            f"{folder} holds the tokens of {found} texts, but there are {len(asked)}: delete the "
            "folder."
        )
    return folder


def groups(workshop: Workshop, pairs: Collection) -> Path:
    """File of the training split's groups: mined and scored by BM25, or given with the data."""
    config = workshop.config
    if config.data.groups:
        return _given_groups(workshop, pairs)

    def search(folder: Path) -> dict[str, Any]:
        mined = mine(pairs, config.data.train_split, config.recipe.negative_depth)
        mined.save(folder / GROUPS)
        judged = pairs.qrels[config.data.train_split].values()
        positives = sum(grade > 0 for grades in judged for grade in grades.values())
        return {"pairs": len(mined), "pairs_without_negatives": positives - len(mined)}

    return workshop.run("negatives", _mining(config, pairs.checksum), search).folder / GROUPS


def _given_groups(workshop: Workshop, pairs: Collection) -> Path:
    data, depth = workshop.config.data, workshop.config.recipe.negative_depth
    assert data.path is not None and data.groups is not None
    where, name = place(data.path), data.groups

    def work(folder: Path) -> dict[str, Any]:
        found = given.read(where.lines(name), pairs, depth)
        found.save(folder / GROUPS)
        return {"pairs": len(found)}

    specification = {
        "given": where.signature(name),
        "collection": pairs.checksum,
        "depth": depth,
    }
    return workshop.run("negatives", specification, work, "training groups").folder / GROUPS


def _mining(config: Config, checksum: str) -> dict[str, Any]:
    return {
        "groups": config.data.groups,
        "collection": checksum,
        "split": config.data.train_split,
        "depth": config.recipe.negative_depth,
    }


def taught_groups(workshop: Workshop, pairs: Collection) -> Path:
    """File of the mined groups with the teacher's scores, where a loss of the cell reads them."""
    config, path = workshop.config, groups(workshop, pairs)
    if not needs_teacher(config):
        return path

    def score(folder: Path) -> dict[str, Any]:
        mined, encoder = Groups.load(path), teacher_encoder(workshop, pairs)
        taught, spent = teach(mined, config.teacher, encoder, workshop.progress.step)
        taught.save(folder / GROUPS)
        inverted = taught.negative_score_PM > taught.positive_score_P[:, None]
        return {
            "inverted_margins": float(inverted[mined.negative_PM != MISSING].mean()),
            "planned": (encoder.planned(mined) if encoder else Spending()).as_dict(),
            "spent": spent.as_dict(),
        }

    taught = workshop.run("teacher", _teaching(config, pairs.checksum), score)
    return taught.folder / GROUPS


def _teaching(config: Config, checksum: str) -> dict[str, Any]:
    return {**_mining(config, checksum), "teacher": asdict(config.teacher)}


def taught_name(config: Config, checksum: str) -> str:
    """The name of the teacher's stage, done or not."""
    return stage.name_of("teacher", _teaching(config, checksum))


def teacher_encoder(workshop: Workshop, pairs: Collection) -> Encoder | None:
    """The teacher's encoder with the tokens it reads; no weights are loaded."""
    teacher = workshop.config.teacher
    if not teacher.encoder:
        return None
    source = encoder_source(teacher.encoder)
    queries, passages = (
        tokens.read(tokenised(workshop, f"teacher {what} tokens", source, asked, teacher.length))
        for what, asked in (("query", pairs.queries), ("passage", pairs.documents))
    )
    meter = Meter.of_teacher(AutoConfig.from_pretrained(source), teacher.length)
    return Encoder(source, queries, passages, meter)
