"""What tests of commands share: grids small enough for seconds, a shell to run them in."""

import atexit
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from commands import Command, run
from hydra import compose, initialize_config_dir
from scipy import sparse
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from lion_sweep import config as configuration
from lion_sweep.config import Precision
from lion_sweep.config.site import SiteName
from lion_sweep.cost.meter import Spending
from lion_sweep.data.collection import Collection, Flaws, Judged, Qrels
from lion_sweep.data.forms import Text
from lion_sweep.data.groups import Groups
from lion_sweep.data.places import Place
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.texts import SCHEMA, Texts, write
from lion_sweep.files import key_of
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.search import encoding, mining
from lion_sweep.search.base import Where
from lion_sweep.search.bm25 import BM25Index
from lion_sweep.search.parts import Parts
from lion_sweep.stages import engine as engine_module
from lion_sweep.stages.base import beside
from lion_sweep.stages.encode import VECTORS, Encode
from lion_sweep.stages.engine import Done
from lion_sweep.stages.index import engine_of
from lion_sweep.stages.search import Search
from lion_sweep.stages.texts import (
    JUDGED,
    TEXTS,
    File,
    ImportJudgements,
    ImportTexts,
    Source,
    Tokenise,
)
from lion_sweep.stages.workshop import Workshop

GRID = ["-m", "model=1b,3b,8b", "paradigm=sparse,dense", "loss=cl,kd,clkd"]
TINY = [
    "data=beir",
    "data.name=twin",
    "teacher=bm25",
    "loss.batch_size=8",
    "recipe.adapt.steps=2",
    "recipe.adapt.batch_size=2",
    "recipe.adapt.chunk=16",
    "recipe.checkpoint_every=1",
    "evaluation.permutations=99",
    "tracking=none",
]
# The budget of the tiny twin of the whole grid: some ten steps of the smallest cell.
TWIN_BUDGET = ["budget.flops=3e10", "budget.tolerance=1"]


@dataclass
class Shell:
    """A user's shell: commands of the package with this environment, on this collection."""

    environment: dict[str, str]
    collection: Path

    def words(self, *words: str) -> list[str]:
        """The words with those that make every grid small, where they say nothing else."""
        chosen = {word.split("=")[0] for word in words}
        tiny = [*TINY, "budget.tolerance=null", f"data.path={self.collection}"]
        return [*words, *(word for word in tiny if word.split("=")[0] not in chosen)]

    def start(self, *words: str, module: str = "lion_sweep") -> Command:
        """A command that goes on while the test does."""
        return Command(module, *self.words(*words), env=self.environment)

    def run(self, *words: str, module: str = "lion_sweep") -> tuple[int, str]:
        """(exit status, what it printed) of a finished command."""
        command = self.start(*words, module=module)
        printed, _ = command.communicate()
        return command.wait(), printed

    def status(self, root: Path) -> tuple[int, list[dict[str, Any]]]:
        """(exit status, rows) of the status command."""
        words = [f"paths.root={root}", "status.format=json"]
        done = run("lion_sweep.status", *words, env=self.environment)
        return done.returncode, json.loads(done.stdout)


def listed(*written: str) -> Texts:
    """Texts whose ids are their numbers."""
    return texts({str(number): text for number, text in enumerate(written)})


def texts_in(where: Place, name: str) -> Iterator[Text]:
    """The (id, text) pairs of a file, whatever blocks they come in."""
    return chain.from_iterable(where.blocks(name))


def texts(pairs: dict[str, str]) -> Texts:
    """Texts by id, in memory."""
    return Texts(pa.table([list(pairs), list(pairs.values())], schema=SCHEMA), key_of(pairs))


@dataclass(frozen=True, eq=False)
class HeldTexts(ImportTexts):
    """Texts by id that no file holds."""

    files: tuple[File, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        return write([list(self.held.items())], folder / TEXTS, "held")


@dataclass(frozen=True, eq=False)
class HeldJudgements(ImportJudgements):
    """Judgements that no file holds."""

    held: Qrels = field(default_factory=dict)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        read = (stage.read(shop) for stage in (self.documents, self.queries))
        judged = Judged.of(self.held, *read, {})
        judged.save(folder / JUDGED)
        return {"flaws": {}, "checksum": judged.checksum}


def source(documents: dict[str, str], queries: dict[str, str], **qrels: Qrels) -> Source:
    """A collection that no file holds; `qrels` by split."""
    held = HeldTexts(held=documents, title="corpus"), HeldTexts(held=queries, title="queries")
    nowhere: Any = None
    judged = {
        split: HeldJudgements(nowhere, split, *held, held=found, title=f"judgements {split}")
        for split, found in qrels.items()
    }
    return Source("held", *held, judged)


@dataclass(frozen=True, eq=False)
class Made(Encode):
    """Vectors, [N, D], that are there already."""

    made: Any = beside(None)

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        """Nothing is encoded."""
        parts = Parts(folder / VECTORS, self.made.shape[0])
        parts.add(np.arange(self.made.shape[0]), self.made, Spending())
        parts.keep()
        return {}


@dataclass(frozen=True)
class NoWeights:
    """There is nothing left to encode."""

    identity: str
    source: str = ""

    def load(self, shop: Workshop) -> Any:
        """Nothing needs them."""
        raise AssertionError("there is nothing left to encode")


def teacher_encoder(folder: Path, words: list[str]) -> None:
    """A small BERT with random weights; the token of a word is its place in `words`, plus 2."""
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    BertModel(shape).save_pretrained(folder)


def bm25_index(ids: Sequence[str], documents: Sequence[str], **settings: float) -> BM25Index:
    """The index of texts, in a folder that goes with this process."""
    where = Where(_passing(), torch.device("cpu"), print)
    return BM25Index.over(ids, documents, where, **settings)


def mined(pairs: Collection, depth: int = 3) -> tuple[Groups, Flaws]:
    """The groups of the split "train", and what is left out."""
    documents = pairs.documents
    index = bm25_index(documents.ids, documents)  # type: ignore[arg-type]
    parts = list(mining.batches(index, pairs.queries, pairs.judged["train"], depth))
    found, left_out = [groups for groups, _ in parts], [flaws for _, flaws in parts]
    arrays = {name: np.concatenate([vars(g)[name] for g in found]) for name in vars(found[0])}
    return Groups(**arrays), {name: sum(f[name] for f in left_out) for name in left_out[0]}


def _passing() -> Path:
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def pair_scores(index: BM25Index, texts: Sequence[str], ids: Sequence[str]) -> list[float]:
    """The score of each query text and the document beside it."""
    pairs = np.arange(len(texts)), index.ids.rows(list(ids))
    return index.scores(texts, *pairs).tolist()


def searched(
    root: Path, documents: encoding.Vectors, queries: encoding.Vectors, *words: str
) -> Done:
    """The search stage of an encoder whose vectors, [N, D] and [Q, D], are there already."""
    configuration.register()
    folder = str(configuration.config_folder())
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        config = configuration.resolve(compose("config", overrides=[*words, "site.devices=1"]))
    is_sparse = sparse.issparse(documents)
    passages = {f"d{number}": "" for number in range(documents.shape[0])}
    asked = {f"q{number}": "" for number in range(queries.shape[0])}
    held = source(passages, asked, test={query: {"d0": 1} for query in asked})
    tokens = Tokenise(held.documents, Pretrained("", None, ""), 1, title="tokens").cut(1)
    made = [
        Made(
            NoWeights(what), tokens, None, is_sparse, None, Precision.fp32, title=what, made=vectors
        )
        for what, vectors in (("documents", documents), ("queries", queries))
    ]
    engine, depth = engine_of(config, "sparse" if is_sparse else "dense"), config.evaluation.depth
    vectors = dict(zip(("passages", "queries"), made, strict=True))
    search = Search(held.judged["test"], engine, depth, **vectors, title="search mine")
    shop = Workshop(root, Progress("cell", None), Execution.of(config, SiteName.laptop))
    for stage in made:  # whose tokens nobody has
        folder = root / "stages" / stage.name
        engine_module.run(
            folder, stage.specification, lambda partial, one=stage: one.work(shop, partial)
        )
    return shop.run(search)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """The first true value of `condition`; fails after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")


def results(root: Path) -> dict[str, dict[str, Any]]:
    """Results by cell."""
    found = (json.loads(path.read_text()) for path in root.glob("cells/*/result.json"))
    return {result["id"]: result for result in found}


def by_axes(root: Path) -> dict[str, dict[str, Any]]:
    """Results by what tells the cells of one grid apart, as in 1b-dense-cl."""
    return {"-".join(result["axes"].values()): result for result in results(root).values()}


def attempts(folder: Path) -> list[dict[str, Any]]:
    """Records of a task's attempts."""
    paths = sorted((folder / "attempts").glob("*.json"))
    return [json.loads(path.read_text() or "{}") for path in paths]
