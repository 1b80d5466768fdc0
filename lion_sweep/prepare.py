"""What cells share before anything trains: collection, token cache, training groups, teacher."""

import hashlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig
from transformers.utils import cached_file

from lion_sweep import interruption, stage
from lion_sweep.config import Config, DataKind
from lion_sweep.data import pydoc, tokens
from lion_sweep.data.collection import Collection, read, write
from lion_sweep.data.groups import MISSING, Groups, mine
from lion_sweep.data.teacher import Encoder, encoder_source, teach
from lion_sweep.errors import UserError
from lion_sweep.meter import Meter, Spending
from lion_sweep.progress import Progress
from lion_sweep.stage import Stage, Team
from lion_sweep.validation import needs_teacher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GROUPS = "groups.npz"


class Workshop:
    """Runs stages below `paths.root` and shows them on the progress line.

    `owner` names whose locks are meant to be fenced off, `team` the processes that work together.
    """

    def __init__(
        self, config: Config, progress: Progress, owner: str = "", team: Team | None = None
    ) -> None:
        self.config, self.owner, self.team = config, owner, team
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
    ) -> Stage:
        """One stage; `shown` tells apart several of a name, `together` is work for all ranks."""
        title = shown or name
        if interruption.requested():
            raise interruption.stop()
        self.progress.begin(title)
        done = stage.run(self.root, name, specification, work, self.owner, self.team, together)
        self.progress.end(title, done.seconds, done.reused)
        self.stages[title] = done
        return done


@cache
def package_version(package: str) -> str:
    """Versions of what ships `package`; Python's own where no distribution does."""
    name = package.split(".")[0]
    if name in sys.stdlib_module_names or name == "stdlib":
        return sys.version.split()[0]
    with suppress(PackageNotFoundError):  # the look-up below reads the metadata of everything
        return version(name)
    return " ".join(map(version, packages_distributions().get(name, [])))


@lru_cache(maxsize=4)
def _read(folder: Path, name: str, splits: tuple[str, ...]) -> Collection:
    return read(folder, name, list(splits))


def collection(workshop: Workshop) -> Collection:
    """The cell's collection, derived first where it is the embedded one."""
    data = workshop.config.data
    splits = tuple(dict.fromkeys([data.train_split, data.test_split]))
    if data.kind is DataKind.beir:
        assert data.path is not None
        return _read(Path(data.path).expanduser(), data.name, splits)

    def derive(folder: Path) -> dict[str, Any]:
        pairs = pydoc.collect(data.packages)
        by_split: dict[str, list[tuple[str, str]]] = {"train": [], "dev": [], "test": []}
        for query, passage in pairs:
            by_split[pydoc.split_of(query)].append((query, passage))
        write(folder, by_split)
        return {split: len(rows) for split, rows in by_split.items()}

    packages = {package: package_version(package) for package in data.packages}
    done = workshop.run("collection", {"pydoc": packages, "rules": pydoc.RULES}, derive)
    return _read(done.folder, data.name, splits)


@lru_cache(maxsize=4)
def tokenizer_of(source: str, offline: bool = False) -> "PreTrainedTokenizerBase":
    """The backbone's tokenizer; `offline` takes files that are on this machine alone."""
    from transformers import AutoTokenizer  # takes a second, and a warm token cache needs none

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, local_files_only=offline
    )
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
        return stage.key_of(tokenizer_of(source, offline).get_vocab())
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def tokenised(
    workshop: Workshop,
    shown: str,
    source: str,
    texts: Collection,
    lengths: tuple[int, int],
    offline: bool = False,
) -> Path:
    """Folder of the collection's tokens; queries and passages are cut at `lengths`."""
    query, passage = lengths

    def tokenise(folder: Path) -> dict[str, Any]:
        tokenizer = tokenizer_of(source, offline)
        return {
            "queries": tokens.write(
                folder, "queries", list(texts.queries.values()), tokenizer, query
            ),
            "passages": tokens.write(
                folder, "passages", list(texts.documents.values()), tokenizer, passage
            ),
        }

    specification = {
        "collection": texts.checksum,
        "tokenizer": tokenizer_key(source, offline),
        "query_length": query,
        "passage_length": passage,
    }
    folder = workshop.run("tokens", specification, tokenise, shown).folder
    found = tuple(len(tokens.read(folder, name)) for name in ("queries", "passages"))
    if found != (len(texts.queries), len(texts.documents)):
        raise UserError(
            f"{folder} holds the tokens of {found[0]} queries and {found[1]} passages, but "
            f"{texts.name} has {len(texts.queries)} and {len(texts.documents)}: delete the folder."
        )
    return folder


def mined_groups(workshop: Workshop, texts: Collection) -> Path:
    """File of the training split's BM25 negatives, scored by BM25."""
    config = workshop.config

    def search(folder: Path) -> dict[str, Any]:
        groups = mine(texts, config.data.train_split, config.recipe.negative_depth)
        groups.save(folder / GROUPS)
        judged = texts.qrels[config.data.train_split].values()
        positives = sum(grade > 0 for grades in judged for grade in grades.values())
        return {"pairs": len(groups), "pairs_without_negatives": positives - len(groups)}

    return workshop.run("negatives", _mining(config, texts.checksum), search).folder / GROUPS


def _mining(config: Config, checksum: str) -> dict[str, Any]:
    return {
        "collection": checksum,
        "split": config.data.train_split,
        "depth": config.recipe.negative_depth,
    }


def taught_groups(workshop: Workshop, texts: Collection) -> Path:
    """File of the mined groups with the teacher's scores, where a loss of the cell reads them."""
    config, path = workshop.config, mined_groups(workshop, texts)
    if not needs_teacher(config):
        return path

    def score(folder: Path) -> dict[str, Any]:
        mined, encoder = Groups.load(path), teacher_encoder(workshop, texts)
        taught, spent = teach(mined, config.teacher, encoder, workshop.progress.step)
        taught.save(folder / GROUPS)
        inverted = taught.negative_score_PM > taught.positive_score_P[:, None]
        return {
            "inverted_margins": float(inverted[mined.negative_PM != MISSING].mean()),
            "planned": (encoder.planned(mined) if encoder else Spending()).as_dict(),
            "spent": spent.as_dict(),
        }

    taught = workshop.run("teacher", _teaching(config, texts.checksum), score)
    return taught.folder / GROUPS


def _teaching(config: Config, checksum: str) -> dict[str, Any]:
    return {**_mining(config, checksum), "teacher": asdict(config.teacher)}


def taught_name(config: Config, checksum: str) -> str:
    """The name of the teacher's stage, done or not."""
    return stage.name_of("teacher", _teaching(config, checksum))


def teacher_encoder(workshop: Workshop, texts: Collection) -> Encoder | None:
    """The teacher's encoder with the tokens it reads; no weights are loaded."""
    teacher = workshop.config.teacher
    if not teacher.encoder:
        return None
    source = encoder_source(teacher.encoder)
    lengths = (teacher.length, teacher.length)
    folder = tokenised(workshop, "teacher tokens", source, texts, lengths)
    meter = Meter.of_teacher(AutoConfig.from_pretrained(source), teacher.length)
    queries, passages = (tokens.read(folder, name) for name in ("queries", "passages"))
    return Encoder(source, queries, passages, meter)
