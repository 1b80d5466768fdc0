"""A backbone before it is loaded: where it comes from, its shape, the tokens it reads."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from lion_sweep.config import Config, FullShape, LadderName, plain
from lion_sweep.data.collection import Collection
from lion_sweep.errors import UserError
from lion_sweep.ledger import DecoderShape
from lion_sweep.models import proxy
from lion_sweep.prepare import Workshop, package_version, tokenised

PRETRAINED = "pretrained weights"


@dataclass(frozen=True)
class Blueprint:
    """A backbone before it is loaded: folder or Hugging Face id, shape, and the tokens it reads."""

    source: str
    name: str
    start: str  # what its weights are
    shape: DecoderShape
    tied: bool
    tokenizer: str  # folder or Hugging Face id of what made the tokens
    queries: Path  # tokens
    passages: Path  # tokens
    estimate: str = ""  # why the tokens are not its own, where they are not

    @property
    def key(self) -> str:
        """What tells it from others, without the folder that outputs lie in."""
        path = Path(self.source)
        return path.name if path.parent.name == "stages" else self.source

    def adapting(self, config: Config) -> dict[str, Any]:
        """All that changes what MNTP makes of it: the specification of the stage `adapt`."""
        recipe = config.recipe
        return {
            "source": self.key,
            "tokens": self.passages.name,
            "adapt": plain(asdict(recipe.adapt)),
            "lora": plain(asdict(recipe.lora)) if recipe.lora else None,
            "optimiser": [
                recipe.warmup,
                recipe.weight_decay,
                recipe.clip,
                list(recipe.betas),
                recipe.epsilon,
            ],
            "precision": recipe.precision.name,
            "seed": config.seed,
        }


def _source(workshop: Workshop, texts: Collection) -> tuple[str, str, str]:
    """(folder or Hugging Face id, name, what its weights are); a proxy is built first."""
    config = workshop.config
    asked = config.model.backbone
    if asked and asked.startswith("package:"):
        from lion_sweep.models import package_weights  # imports models, which takes seconds

        package = asked.removeprefix("package:")
        done = workshop.run(
            "backbone",
            {"package": package, "version": package_version(package)},
            lambda folder: package_weights.convert(package, folder),
        )
        return str(done.folder), asked, f"pretrained weights in {package}"
    if asked or config.ladder is LadderName.full:
        source = asked or config.model.full
        assert source is not None
        return source, source, PRETRAINED
    shape = config.model.proxy
    assert shape is not None
    train = texts.queries.of(texts.asked(config.data.train_split))

    def build(folder: Path) -> dict[str, Any]:
        proxy.build(shape, texts.documents.all(), train, folder, config.seed)
        return {}

    specification = {
        "proxy": asdict(shape),
        "collection": texts.checksum,
        "seed": config.seed,
        "rules": proxy.RULES,
    }
    done = workshop.run("backbone", specification, build)
    return str(done.folder), f"proxy-{config.model.name}", proxy.START


def blueprint(workshop: Workshop, texts: Collection) -> Blueprint:
    """The backbone that the cell trains, as its own files describe it."""
    source, name, start = _source(workshop, texts)
    config = AutoConfig.from_pretrained(source)
    shape, tied = DecoderShape.of(config), bool(config.tie_word_embeddings)
    published = workshop.config.model.full_shape
    if source == workshop.config.model.full and published:
        expected = _published(published)
        if (shape, tied) != (expected, published.tied):
            raise UserError(
                f"model.full_shape says {expected}, tied={published.tied}, but {source} is "
                f"{shape}, tied={tied}: correct model.full_shape."
            )
    return Blueprint(
        source, name, start, shape, tied, source, *_token_caches(workshop, source, texts)
    )


def blueprint_offline(workshop: Workshop, texts: Collection) -> Blueprint:
    """The same from what is on this machine: nothing is downloaded.

    Where a published decoder's tokenizer is not here, its stand-in's tokenizer counts the tokens.
    """
    config = workshop.config
    source, published = config.model.full, config.model.full_shape
    if config.ladder is LadderName.proxy or config.model.backbone:
        return blueprint(workshop, texts)
    if source is None or published is None:
        raise UserError(
            f"model={config.model.name} has no model.full_shape to plan ladder=full by."
        )
    estimate, counted_by = "", source
    try:
        caches = _token_caches(workshop, source, texts, offline=True)
    except OSError:
        stand_in = replace(config, ladder=LadderName.proxy)
        shrunken, *_ = _source(Workshop(stand_in, workshop.progress), texts)
        caches, counted_by = _token_caches(workshop, shrunken, texts), shrunken
        estimate = (
            f"tokens of {source} are estimated with its stand-in's tokenizer, as its own is not on "
            f"this machine (hf download {source} --include 'tokenizer*')"
        )
    shape = _published(published)
    return Blueprint(
        source, source, PRETRAINED, shape, published.tied, counted_by, *caches, estimate
    )


def _published(shape: FullShape) -> DecoderShape:
    known = {entry.name for entry in fields(DecoderShape)}
    return DecoderShape(**{name: value for name, value in asdict(shape).items() if name in known})


def _token_caches(
    workshop: Workshop, source: str, texts: Collection, offline: bool = False
) -> tuple[Path, Path]:
    """Folders of the tokens of queries and passages, cut at the longest that any stage asks for."""
    lengths, evaluation = workshop.config.recipe.lengths, workshop.config.evaluation
    return (
        tokenised(
            workshop,
            "query tokens",
            source,
            texts.queries,
            max(lengths.query, evaluation.query_length),
            offline,
        ),
        tokenised(
            workshop,
            "passage tokens",
            source,
            texts.documents,
            max(lengths.passage, evaluation.passage_length),
            offline,
        ),
    )
