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
from pathlib import Path
from typing import Any, Protocol

from lion_sweep.data.records import Judgement, Text, with_title
from lion_sweep.errors import UserError
from lion_sweep.machine.digests import Digests

GRADE = re.compile(r"-?[0-9]+")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LAYOUT = (
    "a folder in BEIR format holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv; other names "
    "are given with corpus=, queries= and qrels="
)


class Place(Protocol):
    """Somewhere to read a collection from."""

    def where(self, name: str) -> str:
        """The file, or the part of a repository, as a message names it."""

    def identity(self, name: str, digests: Digests) -> Any:
        """What tells this content from any other. Raises `UserError` where it is missing."""

    def texts(self, name: str) -> Iterator[Text]:
        """(id, text) pairs; a title leads the text. Raises `UserError` with file and line."""

    def judgements(self, name: str, split: str) -> Iterator[Judgement]:
        """(query id, document id, grade) triples. Raises `UserError` with file and line."""

    def lines(self, name: str) -> Iterator[tuple[str, str]]:
        """(file:line, text) of the lines of a file that hold something."""


def place(path: str) -> Place:
    """The place that a configuration names. Raises `UserError` where there is none."""
    local = Path(path).expanduser()
    if local.is_dir():
        return Folder(local)
    if local.is_file() and zipfile.is_zipfile(local):
        return Zip(local)
    if not local.exists() and HUB_ID.fullmatch(path):
        from lion_sweep.data.hub import Hub  # imports datasets, which takes a second

        return Hub(path)
    raise UserError(
        f"data.path={path} is not a folder, a .zip, or a Hugging Face id such as BeIR/scifact: "
        f"{LAYOUT}."
    )


class Files(ABC):
    """Lines of named files; what holds them says how they are opened."""

    @abstractmethod
    def where(self, name: str) -> str:
        """The file as a message names it."""

    @abstractmethod
    def read(self, name: str) -> Iterator[bytes]:
        """The lines of a file, unpacked."""

    def texts(self, name: str) -> Iterator[Text]:
        """(id, text) pairs."""
        kind = name.removesuffix(".gz").rpartition(".")[2]
        if kind not in ("jsonl", "tsv"):
            raise UserError(f"{self.where(name)}: texts are read from .jsonl and .tsv files.")
        parse = _text_of_json if kind == "jsonl" else _text_of_tsv
        for at, line in self.lines(name):
            yield parse(line, at)

    def judgements(self, name: str, split: str) -> Iterator[Judgement]:
        """(query id, document id, grade) triples."""
        kind = name.removesuffix(".gz").rpartition(".")[2]
        if kind == "json":
            yield from _judgements_of_json(b"".join(self.read(name)), self.where(name))
            return
        if kind not in ("tsv", "txt"):
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
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{where}:{number} is not UTF-8 (byte {error.start} of the line): convert it."
                ) from None
            if line.strip():
                yield f"{where}:{number}", line


class Folder(Files):
    """Files of a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def where(self, name: str) -> str:
        """Its path."""
        return str(self.root / name)

    def identity(self, name: str, digests: Digests) -> Any:
        """The digest of its content, and the form that its name says it has."""
        path = self._path(name)
        form = path.name.removesuffix(".gz").rpartition(".")[2]
        return {"form": form, "digest": digests.of_file(path)}

    def read(self, name: str) -> Iterator[bytes]:
        """The lines of a file."""
        path = self._path(name)
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                yield from lines
        except (EOFError, gzip.BadGzipFile) as error:
            raise UserError(f"{path} is damaged ({error}): fetch it again.") from None

    def _path(self, name: str) -> Path:
        """The file, packed or not."""
        for candidate in (self.root / name, self.root / f"{name}.gz"):
            if candidate.is_file():
                return candidate
        raise UserError(f"{self.root / name} is missing: {LAYOUT}.")


class Zip(Files):
    """Files of a .zip, which may lie in a folder inside it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def where(self, name: str) -> str:
        """The archive and the file in it."""
        return f"{self.path}/{name}"

    def identity(self, name: str, digests: Digests) -> Any:
        """The digest of the archive, and the file in it."""
        with zipfile.ZipFile(self.path) as archive:
            entry = self._entry(archive, name)
        return {"entry": entry, "archive": digests.of_file(self.path)}

    def read(self, name: str) -> Iterator[bytes]:
        """The lines of a file."""
        try:
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(self._entry(archive, name)) as lines,
            ):
                yield from lines
        except zipfile.BadZipFile as error:
            raise UserError(f"{self.where(name)} is damaged ({error}): fetch it again.") from None

    def _entry(self, archive: zipfile.ZipFile, name: str) -> str:
        found = [e for e in archive.namelist() if e == name or e.endswith(f"/{name}")]
        if not found:
            raise UserError(f"{self.where(name)} is missing: {LAYOUT}.")
        return min(found, key=len)


def _text_of_json(line: str, at: str) -> Text:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{at} is not JSON: {error.msg}.") from None
    if not (
        isinstance(record, dict)
        and type(record.get("_id")) in (str, int)
        and "text" in record
        and all(isinstance(record.get(key), str | None) for key in ("title", "text"))
    ):
        raise UserError(f'{at} needs "_id" and "text", as in {{"_id": "d1", "text": "..."}}.')
    return str(record["_id"]), with_title(record.get("title"), record["text"])


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
