"""Where a cell's decoder comes from: built, unpacked from a package, or pretrained; its shape."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from lion_sweep.config.schema import Config, FullShape, LadderName, ProxyShape
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.models import proxy
from lion_sweep.stages.base import Stage
from lion_sweep.stages.texts import ImportJudgements, Source, package_version
from lion_sweep.stages.workshop import Workshop

PRETRAINED = "pretrained weights"


@dataclass(frozen=True, eq=False)
class TrainTokenizer(Stage):
    """The tokenizer that the stand-ins of all sizes share, and how rare its tokens are."""

    kind = "tokenizer"
    RULES = proxy.RULES

    judged: ImportJudgements  # of the queries that are trained on

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        documents, queries = self.judged.documents.read(shop), self.judged.queries.read(shop)
        rows_Q = self.judged.read(shop).asked_rows
        proxy.train(documents, queries, rows_Q, folder, shop.progress.step)
        return {}


@dataclass(frozen=True, eq=False)
class BuildProxy(Stage):
    """A shrunken decoder that starts from small pretrained embeddings."""

    kind = "backbone"
    RULES = proxy.RULES

    shape: ProxyShape
    tokenizer: TrainTokenizer
    seed: int
    wordllama: str  # the version whose table it starts from

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        proxy.build(self.shape, shop.folder(self.tokenizer), folder, self.seed)
        return {}


@dataclass(frozen=True, eq=False)
class UnpackPackage(Stage):
    """Real pretrained weights out of an installed Python package."""

    kind = "backbone"

    package: str
    version: str

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        from lion_sweep.models import package_weights  # imports models, which takes seconds

        return package_weights.convert(self.package, folder)


@dataclass(frozen=True)
class Blueprint:
    """A decoder before it is loaded."""

    source: str  # folder or Hugging Face id
    made_by: Stage | Pretrained | None  # None: nobody looked, see `offline`
    name: str
    start: str  # what its weights are
    shape: DecoderShape
    tied: bool
    tokenizer: Pretrained | Stage  # that leaves one in its folder
    estimate: str = ""  # why the tokens are not its own, where they are not

    @property
    def identity(self) -> Any:
        return self.made_by.identity if self.made_by else {"id": self.source}

    @property
    def revision(self) -> str | None:
        return self.made_by.revision if isinstance(self.made_by, Pretrained) else None

    @property
    def embeddings(self) -> int:
        """Parameters of the embedding matrix, and of the head where that is one of its own."""
        return self.shape.head_parameters * (1 if self.tied else 2)

    @property
    def key(self) -> str:
        """Its name without the folder that outputs lie in."""
        return self.made_by.name if isinstance(self.made_by, Stage) else self.source


def blueprint(config: Config, shop: Workshop, texts: Source, *, waits: bool = False) -> Blueprint:
    """The decoder that a cell trains, as its own files describe it; a proxy is built first.

    Where the texts are to be read later (`waits`), a proxy is what it will be of many texts.
    """
    asked, published = config.model.backbone, config.model.full_shape
    if asked and asked.startswith("package:"):
        package = asked.removeprefix("package:")
        unpack = UnpackPackage(package, package_version(package))
        return _made(unpack, None, shop, asked, f"pretrained weights in {package}")
    if not asked and config.ladder is LadderName.proxy:
        return _proxy(config, shop, texts, waits)
    source = asked or config.model.full
    assert source is not None
    weights = Pretrained.weights(source, shop.digests)
    tokenizer = Pretrained.tokenizer(source, shop.digests)
    shape, tied = _shape(weights.config())
    if source == config.model.full and published:
        expected = _published(published)
        if (shape, tied) != (expected, published.tied):
            raise UserError(
                f"model.full_shape says {expected}, tied={published.tied}, but {source} is "
                f"{shape}, tied={tied}: correct model.full_shape."
            )
    return Blueprint(weights.source, weights, source, PRETRAINED, shape, tied, tokenizer)


def _proxy(config: Config, shop: Workshop, texts: Source, waits: bool) -> Blueprint:
    shape = config.model.proxy
    assert shape is not None  # validation.py
    tokenizer = TrainTokenizer(texts.judged[config.data.train_split])
    build = BuildProxy(shape, tokenizer, config.seed, package_version("wordllama"))
    name = f"proxy-{config.model.name}"
    if waits and not shop.find(build):
        described = PretrainedConfig.from_dict(proxy.sizes(shape, proxy.VOCABULARY))
        source = str(shop.place(build))
        return Blueprint(source, build, name, proxy.START, *_shape(described), tokenizer)
    return _made(build, tokenizer, shop, name, proxy.START)


def _made(
    stage: Stage, tokenizer: TrainTokenizer | None, shop: Workshop, name: str, start: str
) -> Blueprint:
    source = str(shop.folder(stage))
    # Whole, as transformers wrote it: the class of its type would take 1.5 s to import.
    described = PretrainedConfig.from_dict(read_json(Path(source) / "config.json"))
    reads = tokenizer or Pretrained.tokenizer(source, shop.digests)
    return Blueprint(source, stage, name, start, *_shape(described), reads)


def _shape(described: PretrainedConfig) -> tuple[DecoderShape, bool]:
    return DecoderShape.of(described), bool(described.tie_word_embeddings)


def blueprint_offline(
    config: Config, shop: Workshop, texts: Source, *, waits: bool = False
) -> Blueprint:
    """The same without downloads: where a tokenizer is not here, its stand-in's counts tokens."""
    source, published, estimate = config.model.full, config.model.full_shape, ""
    if config.ladder is LadderName.proxy or config.model.backbone:
        return blueprint(config, shop, texts, waits=waits)
    if source is None or published is None:
        name = config.model.name
        raise UserError(f"model={name} has no model.full_shape to plan ladder=full by.")
    try:
        reads: Pretrained | Stage = Pretrained.tokenizer(source, shop.digests, offline=True)
    except OSError:
        reads = _proxy(config, shop, texts, waits).tokenizer
        estimate = (
            f"tokens of {source} are estimated with its stand-in's tokenizer, as its own is not on "
            f"this machine (hf download {source} --include 'tokenizer*')"
        )
    shape, tied = _published(published), published.tied
    return Blueprint(source, None, source, PRETRAINED, shape, tied, reads, estimate)


def _published(published: FullShape) -> DecoderShape:
    names = [entry.name for entry in fields(DecoderShape) if hasattr(published, entry.name)]
    return DecoderShape(**{name: getattr(published, name) for name in names})
