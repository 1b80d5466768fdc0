"""Where collections lie: a folder, a .zip of one, or a data set of the Hugging Face Hub.

Every place gives texts as (id, text) and judgements as (query id, document id, grade). Files say
by their names how they are written, with or without .gz at the end:

    *.jsonl   {"_id": str, "title": str, "text": str} per line, the title may be missing
    *.tsv     id TAB text per line, or query-id TAB corpus-id TAB grade with or without a header
    *.txt     a TREC qrels file: query-id, a column that is ignored, document-id, grade
    *.json    {query-id: {document-id: grade}}

All errors name file and line.
"""

import gzip
import json
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from lion_sweep.errors import UserError
from lion_sweep.machine.digests import Digests

Text = tuple[str, str]  # id, text
Judgement = tuple[str, str, int]  # query id, document id, grade

GRADE = re.compile(r"-?[0-9]+")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LAYOUT = (
    "a folder in BEIR format holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv; other names "
    "are given with corpus=, queries= and qrels="
)


class Files(ABC):
    """Lines of the named files of a folder or archive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def where(self, name: str) -> str:
        """The file as a message names it."""
        return str(self.path / name)

    @abstractmethod
    def read(self, name: str) -> Iterator[bytes]:
        """The lines of a file, unpacked."""

    def texts(self, name: str) -> Iterator[Text]:
        """(id, text) pairs; a title leads the text."""
        parse = {"jsonl": _text_of_json, "tsv": _text_of_tsv}.get(_form(name))
        if parse is None:
            raise UserError(f"{self.where(name)}: texts are read from .jsonl and .tsv files.")
        for at, line in self.lines(name):
            yield parse(line, at)

    def judgements(self, name: str, split: str) -> Iterator[Judgement]:
        """(query id, document id, grade) triples."""
        if _form(name) == "json":
            yield from _judgements_of_json(b"".join(self.read(name)), self.where(name))
            return
        if _form(name) not in ("tsv", "txt"):
            raise UserError(f"{self.where(name)}: qrels are read from .tsv, .txt and .json files.")
        for number, (at, line) in enumerate(self.lines(name)):
            fields = line.split("\t") if "\t" in line else line.split()
            if number == 0 and fields[-1].strip() == "score":
                continue
            if len(fields) == 4:  # as TREC writes them
                fields = [fields[0], *fields[2:]]
            if len(fields) != 3 or not GRADE.fullmatch(fields[2].strip()):
                raise UserError(
                    f"{at} is neither query-id TAB corpus-id TAB grade nor a line of a TREC qrels "
                    "file (query-id 0 document-id grade); grades are whole numbers."
                )
            yield fields[0], fields[1], int(fields[2])

    def lines(self, name: str) -> Iterator[tuple[str, str]]:
        """(file:line, text) of the lines that hold something."""
        where = self.where(name)
        for number, raw in enumerate(self.read(name), start=1):
            at = f"{where}:{number}"
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{at} is not UTF-8 (byte {error.start} of the line): convert it."
                ) from None
            if line.strip():
                yield at, line


class Folder(Files):
    """Files of a folder."""

    def identity(self, name: str, digests: Digests) -> Any:
        """The digest of its content, and the form that its name says it has."""
        path = self._file(name)
        return {"form": _form(path.name), "digest": digests.of_file(path)}

    def read(self, name: str) -> Iterator[bytes]:
        path = self._file(name)
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                yield from lines
        except (EOFError, gzip.BadGzipFile) as error:
            raise UserError(f"{path} is damaged ({error}): fetch it again.") from None

    def _file(self, name: str) -> Path:
        """The file, packed or not."""
        for candidate in (self.path / name, self.path / f"{name}.gz"):
            if candidate.is_file():
                return candidate
        raise UserError(f"{self.where(name)} is missing: {LAYOUT}.")


class Zip(Files):
    """Files of a .zip, which may lie in a folder inside it."""

    def identity(self, name: str, digests: Digests) -> Any:
        """The digest of the archive, and the file in it."""
        return {"entry": self._entry(name), "archive": digests.of_file(self.path)}

    def read(self, name: str) -> Iterator[bytes]:
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._entry(name)) as lines:
                yield from lines
        except zipfile.BadZipFile as error:
            raise UserError(f"{self.where(name)} is damaged ({error}): fetch it again.") from None

    def _entry(self, name: str) -> str:
        with zipfile.ZipFile(self.path) as archive:
            found = [e for e in archive.namelist() if e == name or e.endswith(f"/{name}")]
        if not found:
            raise UserError(f"{self.where(name)} is missing: {LAYOUT}.")
        return min(found, key=len)


class Hub:
    """A data set repository; parts are streamed, so that nothing is stored twice.

    `BeIR/scifact` has the parts corpus and queries, and its judgements in `BeIR/scifact-qrels`;
    `mteb/scifact` has them in its own part `default`.
    """

    def __init__(self, identifier: str) -> None:
        self.identifier = identifier

    def where(self, name: str) -> str:
        return f"{self.identifier}, {_part(name)}"

    def identity(self, name: str, digests: Digests) -> Any:
        """The repository, its revision and the part; offline, the files that are here."""
        both = self.identifier, f"{self.identifier}-qrels"
        return {"part": _part(name), "revisions": {name: _revision(name) for name in both}}

    def texts(self, name: str) -> Iterator[Text]:
        part = _part(name)
        rows = _load(self.identifier, part, part)
        with _readable(self.where(name)):
            for row in rows:
                yield str(row["_id"]), _with_title(row.get("title"), row["text"])

    def judgements(self, name: str, split: str) -> Iterator[Judgement]:
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


# `identity` tells the content of a file or part from any other.
Place = Folder | Zip | Hub


def place(path: str) -> Place:
    """The place that a configuration names. Raises `UserError` where there is none."""
    local = Path(path).expanduser()
    if local.is_dir():
        return Folder(local)
    if local.is_file() and zipfile.is_zipfile(local):
        return Zip(local)
    if not local.exists() and HUB_ID.fullmatch(path):
        return Hub(path)
    raise UserError(
        f"data.path={path} is not a folder, a .zip, or a Hugging Face id such as BeIR/scifact: "
        f"{LAYOUT}."
    )


def _text_of_json(line: str, at: str) -> Text:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{at} is not JSON: {error.msg}.") from None
    known = isinstance(record, dict) and type(record.get("_id")) in (str, int) and "text" in record
    if not (known and all(isinstance(record.get(key), str | None) for key in ("title", "text"))):
        raise UserError(f'{at} needs "_id" and "text", as in {{"_id": "d1", "text": "..."}}.')
    return str(record["_id"]), _with_title(record.get("title"), record["text"])


def _text_of_tsv(line: str, at: str) -> Text:
    fields = line.split("\t")
    if len(fields) != 2 or not fields[0].strip():
        raise UserError(f"{at} is not id TAB text: it has {len(fields)} columns.")
    return fields[0].strip(), fields[1].strip()


def _judgements_of_json(raw: bytes, where: str) -> Iterator[Judgement]:
    try:
        qrels = json.loads(raw)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where} is not JSON: {error}.") from None
    if not isinstance(qrels, dict):
        raise UserError(f"{where} is not {{query-id: {{document-id: grade}}}}.")
    for query, grades in qrels.items():
        if not isinstance(grades, dict):
            raise UserError(f"{where}: query {query!r} has no {{document-id: grade}}.")
        for document, grade in grades.items():
            if not isinstance(grade, int):
                raise UserError(f"{where}: query {query!r}, {document!r}: {grade!r} is no grade.")
            yield query, document, grade


def _form(name: str) -> str:
    """jsonl of corpus.jsonl.gz."""
    return name.removesuffix(".gz").rpartition(".")[2]


def _with_title(title: str | None, text: str | None) -> str:
    """Title, a space, text, as BEIR's models read them."""
    return f"{title or ''} {text or ''}".strip()


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
    import datasets  # takes a second

    how = {"split": split, "streaming": True, "revision": _revision(identifier)}
    try:
        return datasets.load_dataset(identifier, part, **how)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{identifier} ({part or 'default'}, {split}) cannot be loaded from the Hugging Face "
            f"Hub: {reason} Without network, give a folder or a .zip instead: data.path=FOLDER."
        ) from None
