"""Pretrained models by what they hold: a folder by its files, a Hugging Face id by its revision."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PretrainedConfig
from transformers.utils import cached_file

from lion_sweep.errors import UserError, sentence
from lion_sweep.files import key_of
from lion_sweep.machine.digests import Digests

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHTS = ("config.json", "*.safetensors", "*.bin")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Pretrained:
    """A model as it is now: folder or Hugging Face id, the id's revision, what it is known by."""

    source: str
    revision: str | None
    identity: Any

    @classmethod
    def weights(cls, source: str, digests: Digests) -> "Pretrained":
        """Known by its weights and settings. Raises `OSError` where they cannot be had."""
        folder = Path(source).expanduser()
        if folder.is_dir():
            return cls(str(folder), None, {"weights": digests.of_folder(folder, WEIGHTS)})
        revision = _revision(file_of(source, "config.json"))
        return cls(source, revision, {"id": source, "revision": revision})

    @classmethod
    def tokenizer(cls, source: str, digests: Digests, *, offline: bool = False) -> "Pretrained":
        """Known by its files, so that models with equal ones share their tokens; by its vocabulary
        where it has no such file. `offline` takes files that are on this machine alone.

        Raises `OSError` where neither can be had.
        """
        folder = Path(source).expanduser()
        source = str(folder) if folder.is_dir() else source
        files = {name: file_of(source, name, offline) for name in TOKENIZER}
        revision = next((found for path in files.values() if (found := _revision(path))), None)
        if files[TOKENIZER[0]] is None:
            vocabulary = tokenizer_of(source, revision, offline).get_vocab()
            return cls(source, revision, {"vocabulary": key_of(vocabulary)})
        known = {name: digests.of_file(Path(path)) for name, path in files.items() if path}
        return cls(source, revision, known)

    def config(self) -> PretrainedConfig:
        """What its config.json says. Raises `UserError` as `config_of` does."""
        return config_of(self.source, self.revision)

    def load_tokenizer(self) -> "PreTrainedTokenizerBase":
        """Raises `UserError` where it cannot be read."""
        return tokenizer_of(self.source, self.revision, known_by=str(self.identity))


def config_of(source: str, revision: str | None = None) -> PretrainedConfig:
    """What a model's config.json says.

    Raises `UserError` where it takes code of its own or is quantised, `OSError` where it is not
    there.
    """
    from transformers import AutoConfig  # a second, which plans of stand-ins need not wait

    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except OSError:
        raise
    except Exception as error:  # whatever the library makes of a config.json that is none
        raise UserError(f"{source}: {' '.join(sentence(error).split())[:300]}") from None
    if quantised := getattr(config, "quantization_config", None):
        method = dict(quantised).get("quant_method", "unknown")
        raise UserError(
            f"{source} is quantised ({method}), and weights are read, trained and merged as they "
            "were before: give the model that it was made from."
        )
    return config


@lru_cache(maxsize=4)
def tokenizer_of(
    source: str, revision: str | None = None, offline: bool = False, known_by: str = ""
) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder or Hugging Face id. Raises `UserError` where it cannot be read.

    `known_by` tells the files that are there now from those that were.
    """
    from transformers import AutoTokenizer  # takes a second, and a warm token cache needs none

    try:
        return AutoTokenizer.from_pretrained(
            source, revision=revision, local_files_only=offline, trust_remote_code=False
        )
    except OSError:
        raise
    except Exception as error:  # whatever the library makes of files that are none
        reason = " ".join(sentence(error).split())[:300]
        raise UserError(f"{source} has no tokenizer that can be read: {reason}") from None


def file_of(source: str, name: str, offline: bool = False) -> str | None:
    """Where a file of the model lies on this machine, fetched first; None where it has none."""
    return cached_file(
        source, name, local_files_only=offline, _raise_exceptions_for_missing_entries=False
    )


def _revision(path: str | None) -> str | None:
    """The commit of a file in the Hub's cache, which has a folder for each."""
    parts = Path(path or "").parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None
