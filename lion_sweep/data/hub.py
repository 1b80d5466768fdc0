"""Collections of the Hugging Face Hub, in the layout of the BeIR and MTEB repositories.

`BeIR/scifact` has the parts corpus and queries, and its judgements in `BeIR/scifact-qrels`;
`mteb/scifact` has them in its own part `default`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi

from lion_sweep.data.records import Judgement, Text, with_title
from lion_sweep.errors import UserError
from lion_sweep.machine.digests import Digests


class Hub:
    """A data set repository; parts are streamed, so that nothing is stored twice."""

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier

    def where(self, name: str) -> str:
        """The repository and its part."""
        return f"{self.identifier}, {_part(name)}"

    def identity(self, name: str, digests: Digests) -> Any:
        """The repository, its revision and the part; offline, the files that are here."""
        repositories = [self.identifier, f"{self.identifier}-qrels"]
        revisions = {name: _revision(name) for name in repositories}
        return {"part": _part(name), "revisions": revisions}

    def texts(self, name: str) -> Iterator[Text]:
        """(id, text) pairs."""
        part = _part(name)
        rows = _load(self.identifier, part, part)
        with _readable(self.where(name)):
            for row in rows:
                yield str(row["_id"]), with_title(row.get("title"), row["text"])

    def judgements(self, name: str, split: str) -> Iterator[Judgement]:
        """(query id, document id, grade) triples."""
        try:
            rows = _load(f"{self.identifier}-qrels", None, split)
        except UserError:
            rows = _load(self.identifier, "default", split)
        with _readable(self.where(name)):
            for row in rows:
                yield str(row["query-id"]), str(row["corpus-id"]), int(row["score"])

    def lines(self, name: str) -> Iterator[tuple[str, str]]:
        """Training groups are files, which the Hub's own clients download."""
        raise UserError(
            f"data.groups={name}: training groups are read from a folder. Download them with "
            f"hf download {self.identifier} {name} --repo-type dataset, and give data.path=FOLDER."
        )


def _part(name: str) -> str:
    """corpus of corpus.jsonl."""
    return Path(name).name.partition(".")[0]


@contextmanager
def _readable(where: str) -> Iterator[None]:
    """What goes wrong while rows are streamed, as a `UserError`."""
    try:
        yield
    except KeyError as column:
        raise UserError(
            f"{where} has no column {column}: texts have _id and text, judgements query-id, "
            "corpus-id and score. Bring it into BEIR's format and give data.path=FOLDER."
        ) from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{where} cannot be read to its end from the Hugging Face Hub: {reason} Give the same "
            "command again, or a folder or a .zip instead: data.path=FOLDER."
        ) from None


@cache
def _revision(identifier: str) -> str | None:
    """The commit that is read in this process; None without network, or without the repository."""
    try:
        return HfApi().dataset_info(identifier).sha
    except Exception:  # whoever reads it next says what is wrong
        return None


def _load(identifier: str, part: str | None, split: str) -> Any:
    revision = _revision(identifier)
    try:
        return datasets.load_dataset(
            identifier, part, split=split, streaming=True, revision=revision
        )
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{identifier} ({part or 'default'}, {split}) cannot be loaded from the Hugging Face "
            f"Hub: {reason} Without network, give a folder or a .zip instead: data.path=FOLDER."
        ) from None
