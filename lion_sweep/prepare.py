"""What cells share before anything trains: collection, backbone, token cache, training groups."""

import sys
from dataclasses import asdict
from functools import cache, lru_cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from lion_sweep import stage
from lion_sweep.config import Config, DataKind, LadderName
from lion_sweep.data import pydoc, tokens
from lion_sweep.data.batches import Sampler
from lion_sweep.data.collection import Collection, read, write
from lion_sweep.data.groups import MISSING, Groups, mine
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.data.teacher import Encoder, encoder_source, teach
from lion_sweep.errors import UserError
from lion_sweep.ledger import DecoderShape
from lion_sweep.meter import Meter, Spending
from lion_sweep.models import package_weights, proxy
from lion_sweep.progress import Progress
from lion_sweep.stage import Stage
from lion_sweep.training.budget import plan
from lion_sweep.validation import needs_teacher

GROUPS = "groups.npz"


class Workshop:
    """Runs stages below `paths.root` and shows them on the progress line."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self.config = config
        self.root = Path(config.paths.root)
        self.progress = progress
        self.stages: dict[str, Stage] = {}

    def run(self, name: str, specification: dict[str, Any], work: Any, shown: str = "") -> Stage:
        """One stage; `shown` tells apart several stages of the same name."""
        title = shown or name
        self.progress.begin(title)
        done = stage.run(self.root, name, specification, work)
        self.progress.end(title, done.seconds, done.reused)
        self.stages[title] = done
        return done


@cache  # asking which distribution ships a package reads the metadata of all of them
def _package_version(package: str) -> str:
    """Versions of what ships `package`; Python's own where no distribution does."""
    distributions = packages_distributions().get(package.split(".")[0], [])
    return " ".join(map(version, distributions)) or sys.version.split()[0]


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

    packages = {package: _package_version(package) for package in data.packages}
    done = workshop.run("collection", {"pydoc": packages, "rules": pydoc.RULES}, derive)
    return _read(done.folder, data.name, splits)


def backbone_source(workshop: Workshop, texts: Collection) -> tuple[str, dict[str, Any]]:
    """(folder or Hugging Face id, what a result says about it); a proxy is built first."""
    config = workshop.config
    asked = config.model.backbone
    if asked and asked.startswith("package:"):
        package = asked.removeprefix("package:")
        done = workshop.run(
            "backbone",
            {"package": package, "version": _package_version(package)},
            lambda folder: package_weights.convert(package, folder),
        )
        return str(done.folder), {"name": asked, "start": f"pretrained weights in {package}"}
    if asked or config.ladder is LadderName.full:
        source = asked or config.model.full
        assert source is not None
        return source, {"name": source, "start": "pretrained weights"}
    shape = config.model.proxy
    assert shape is not None
    train = [texts.queries[query] for query in texts.qrels[config.data.train_split]]

    def build(folder: Path) -> dict[str, Any]:
        proxy.build(shape, list(texts.documents.values()), train, folder, config.seed)
        return {}

    specification = {
        "proxy": asdict(shape),
        "collection": texts.checksum,
        "seed": config.seed,
        "rules": proxy.RULES,
    }
    done = workshop.run("backbone", specification, build)
    return str(done.folder), {"name": f"proxy-{config.model.name}", "start": proxy.START}


@lru_cache(maxsize=4)
def tokenizer_of(source: str) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    return tokenizer


def token_cache(workshop: Workshop, source: str, texts: Collection) -> Path:
    """Folder of the collection's tokens, cut at the longest length that any stage asks for."""
    config = workshop.config
    query = max(config.recipe.lengths.query, config.evaluation.query_length)
    passage = max(config.recipe.lengths.passage, config.evaluation.passage_length)
    return _token_cache(workshop, "tokens", source, texts, query, passage)


def _token_cache(
    workshop: Workshop, shown: str, source: str, texts: Collection, query: int, passage: int
) -> Path:
    def tokenise(folder: Path) -> dict[str, Any]:
        tokenizer = tokenizer_of(source)
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
        "vocabulary": stage.key_of(tokenizer_of(source).get_vocab()),
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

    return workshop.run("negatives", _mining(config, texts), search).folder / GROUPS


def _mining(config: Config, texts: Collection) -> dict[str, Any]:
    return {
        "collection": texts.checksum,
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

    taught = workshop.run(
        "teacher", {**_mining(config, texts), "teacher": asdict(config.teacher)}, score
    )
    return taught.folder / GROUPS


def teacher_encoder(workshop: Workshop, texts: Collection) -> Encoder | None:
    """The teacher's encoder with the tokens it reads; no weights are loaded."""
    teacher = workshop.config.teacher
    if not teacher.encoder:
        return None
    source = encoder_source(teacher.encoder)
    folder = _token_cache(workshop, "teacher tokens", source, texts, teacher.length, teacher.length)
    meter = Meter.of_teacher(AutoConfig.from_pretrained(source), teacher.length)
    queries, passages = (tokens.read(folder, name) for name in ("queries", "passages"))
    return Encoder(source, queries, passages, meter)


def training_plan(
    workshop: Workshop, texts: Collection, source: str, devices: int = 1
) -> tuple[Meter, Spending]:
    """What a text costs, and how many steps the budget buys; no weights are loaded."""
    config, recipe = workshop.config, workshop.config.recipe
    counts = _length_counts(
        token_cache(workshop, source, texts),
        sampler(config, mined_groups(workshop, texts)),
        (recipe.lengths.query, recipe.lengths.passage),
        recipe.micro_batch_tokens,
        recipe.accumulation * devices,
    )
    meter = Meter.of_training(
        DecoderShape.of(AutoConfig.from_pretrained(source)),
        counts.longest,
        sparse=config.paradigm.name == "sparse",
        recipe=recipe,
    )
    return meter, plan(config.budget, counts, meter)


@lru_cache(maxsize=8)  # the cells of a grid share their steps
def _length_counts(
    folder: Path, sampler: Sampler, lengths: tuple[int, int], micro_batch_tokens: int, parts: int
) -> LengthCounts:
    query, passage = lengths
    return LengthCounts(
        sampler,
        tokens.read(folder, "queries").lengths(query),
        tokens.read(folder, "passages").lengths(passage),
        micro_batch_tokens=micro_batch_tokens,
        parts=parts,
    )


def sampler(config: Config, groups: Path) -> Sampler:
    """The cell's sequence of steps, out of a file of groups."""
    return _sampler(groups, config.loss.batch_size, config.loss.negatives, config.seed)


@lru_cache(maxsize=8)
def _sampler(groups: Path, batch_size: int, negatives: int, seed: int) -> Sampler:
    return Sampler(_groups(groups), batch_size, negatives, seed)


@lru_cache(maxsize=4)
def _groups(path: Path) -> Groups:
    return Groups.load(path)
