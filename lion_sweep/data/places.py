"""Where collections lie: a folder, a .zip of one, or a data set of the Hugging Face Hub.

Every place gives texts as (id, text) and judgements as (query id, document id, grade). Files say
by their names how they are written (forms.py), with or without .gz at the end. All errors name file
and line, or row.
"""

import gzip
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from huggingface_hub import HfApi

from lion_sweep.data import forms
from lion_sweep.data.forms import Judgement, Line, Text
from lion_sweep.errors import UserError
from lion_sweep.machine.digests import Digests

FORMS = "tsv", "jsonl", "txt", "json"
BLOCK = 2**24  # bytes that are read, and texts that are kept, at once
ROWS = 50_000  # the same of a repository
OnRead = Callable[[int, int], None]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
LAYOUT = (
    "a folder in BEIR format holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv; other names "
    "are given with corpus=, queries= and qrels="
)


class Files(ABC):
    """Lines of the named files of a folder or archive.

    A file that is not there by its name is found packed, or in another form: repositories hold
    qrels/test.jsonl or qrels/test.tsv.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def where(self, name: str) -> str:
        """The file as a message names it."""
        return str(self.path / name)

    @abstractmethod
    def _find(self, name: str) -> str:
        """The file's own name. Raises `UserError` where there is none."""

    @abstractmethod
    def _open(self, found: str) -> tuple[IO[bytes], int]:
        """What `_find` found, as it lies there, and its bytes."""

    @abstractmethod
    def _file(self, found: str) -> Path:
        """The file that it lies in."""

    def _read(self, found: str) -> Iterator[tuple[bytes, int, int]]:
        """(some megabytes of whole lines of a file, unpacked; bytes read of all of its bytes).

        Raises `UserError` where it is not at its end what it was at its beginning.
        """
        with _whole(self.where(found)):
            state = _state(self._file(found))
            packed, size = self._open(found)
            with packed:
                file = gzip.GzipFile(fileobj=packed) if found.endswith(".gz") else packed
                while raw := file.read(BLOCK) + file.readline():
                    yield raw, packed.tell(), size
            same = _state(self._file(found)) == state
        if not same:
            raise UserError(
                f"{self.where(found)} has changed while it was read: give the same command again "
                "when nothing writes it any more."
            )

    def blocks(
        self, name: str, on_read: OnRead = lambda done, total: None
    ) -> Iterator[Iterable[Text]]:
        """(id, text) pairs, some thousands at a time, which can be pickled and read anywhere; a
        title leads the text. `on_read` hears how much of how much is read."""
        form, found = self._form(name, "texts", "jsonl", "tsv"), self._find(name)
        where, before, first = self.where(found), 0, None
        for raw, done, size in self._read(found):
            block = forms.Block(form, where, raw, before, first)
            if first is None:
                first = next((line for _, line in forms.decoded(BytesIO(raw), where, before)), None)
                self._check_end(replace(block, before=1, first=first), found)
            yield block
            on_read(done, size)
            before += raw.count(b"\n")

    def _check_end(self, end: forms.Block, found: str) -> None:  # noqa: B027 - most cannot
        """Refuse a last line that is broken before all others are read; `end` is to hold it."""

    def judgements(self, name: str, split: str) -> Iterator[Judgement]:
        """(query id, document id, grade) triples."""
        form = self._form(name, "qrels", *FORMS)
        yield from forms.judgements(form, self.lines(name), self.where(self._find(name)))

    def lines(self, name: str) -> Iterator[Line]:
        """(file:line, text) of the lines that hold something."""
        found = self._find(name)
        raws = chain.from_iterable(BytesIO(raw) for raw, _, _ in self._read(found))
        return forms.decoded(raws, self.where(found))

    @abstractmethod
    def plain(self, name: str) -> Path | None:
        """The file where it lies as it is, so that a part of it can be read; None elsewhere."""

    def form(self, name: str) -> str:
        """How the file is written. Raises `UserError` where there is none."""
        return _form(self._find(name))

    def _form(self, name: str, what: str, *known: str) -> str:
        """One of the known forms. Raises `UserError` for another."""
        found = self._find(name)
        if _form(found) not in known:
            endings = ", ".join(f".{form}" for form in known)
            raise UserError(f"{self.where(found)}: {what} are read from files in {endings}.")
        return _form(found)


class Folder(Files):
    """Files of a folder."""

    def identity(self, name: str, digests: Digests) -> Any:
        """The digest of its content, and the form that its name says it has."""
        found = self._find(name)
        with _whole(self.where(found)):
            return {"form": _form(found), "digest": digests.of_file(self.path / found)}

    def plain(self, name: str) -> Path | None:
        found = self._find(name)
        return None if found.endswith(".gz") else self.path / found

    def _find(self, name: str) -> str:
        plain = self.path / name
        with _whole(str(plain)):
            for candidate in _names(name):
                if (self.path / candidate).is_file():
                    return candidate
            kind = "is a folder, not a file" if plain.is_dir() else "is missing"
        raise UserError(f"{plain} {kind}: {LAYOUT}.")

    def _open(self, found: str) -> tuple[IO[bytes], int]:
        return self._file(found).open("rb"), self._file(found).stat().st_size

    def _file(self, found: str) -> Path:
        return self.path / found

    def _check_end(self, end: forms.Block, found: str) -> None:
        file, size = self._open(found)
        with file:
            if size <= BLOCK or found.endswith(".gz"):
                return
            file.seek(size - BLOCK)
            tail = file.read()
        lines = tail.rstrip(b"\r\n")
        _, newline, last = lines.rpartition(b"\n")
        end = replace(end, raw=last if newline else b"")
        try:
            list(end)
        except UserError:
            newlines = sum(raw.count(b"\n") for raw, _, _ in self._read(found))
            list(replace(end, before=newlines - tail.count(b"\n", len(lines))))


class Zip(Files):
    """Files of a .zip, which may lie in a folder inside it."""

    def plain(self, name: str) -> None:
        """They are packed."""

    def identity(self, name: str, digests: Digests) -> Any:
        """The digest of the archive, and the file in it."""
        found = self._find(name)
        with _whole(str(self.path)):
            return {"entry": found, "archive": digests.of_file(self.path)}

    def _find(self, name: str) -> str:
        """The one that lies least deep. Raises `UserError` where several do."""
        with _whole(str(self.path)), zipfile.ZipFile(self.path) as archive:
            # Programs that do not know better write the backslashes of Windows.
            entries = {entry.replace("\\", "/"): entry for entry in archive.namelist()}
        for wanted in _names(name):
            found = [e for e in entries if e == wanted or e.endswith(f"/{wanted}")]
            least = min((e.count("/") for e in found), default=0)
            nearest = [e for e in found if e.count("/") == least]
            if len(nearest) > 1:
                raise UserError(
                    f"{self.where(name)} could be any of {', '.join(sorted(nearest))}: unpack the "
                    "archive, and give data.path= the folder that is meant."
                )
            if nearest:
                return entries[nearest[0]]
        raise UserError(f"{self.where(name)} is missing: {LAYOUT}.")

    def _open(self, found: str) -> tuple[IO[bytes], int]:
        with zipfile.ZipFile(self.path) as archive:  # a file that is open keeps its archive open
            return archive.open(found), archive.getinfo(found).file_size

    def _file(self, found: str) -> Path:
        return self.path


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

    def blocks(
        self, name: str, on_read: OnRead = lambda done, total: None
    ) -> Iterator[Iterable[Text]]:
        part, read = _part(name), 0
        rows = _streamed(_load(self.identifier, part, part), self.where(name))
        texts = (forms.text_of(row, at) for at, row in rows)
        while block := list(islice(texts, ROWS)):
            yield block
            read += len(block)
            on_read(read, read)

    def judgements(self, name: str, split: str) -> Iterator[Judgement]:
        try:
            rows = _load(f"{self.identifier}-qrels", None, split)
        except UserError:
            rows = _load(self.identifier, "default", split)
        return (forms.judgement_of(row, at) for at, row in _streamed(rows, self.where(name)))

    def plain(self, name: str) -> None:
        """Parts are no files."""

    def lines(self, name: str) -> Iterator[Line]:
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
    if local.is_file() and (local.suffix == ".zip" or zipfile.is_zipfile(local)):
        return Zip(local)
    if not local.exists() and HUB_ID.fullmatch(path):
        return Hub(path)
    raise UserError(
        f"data.path={path} is not a folder, a .zip, or a Hugging Face id such as BeIR/scifact: "
        f"{LAYOUT}."
    )


@contextmanager
def _whole(where: str) -> Iterator[None]:
    """What goes wrong while a file is opened and read, as a `UserError`."""
    try:
        yield
    except RuntimeError as error:  # an archive with a password, or packed in an uncommon way
        raise UserError(
            f"{where} cannot be unpacked ({error}): unpack it, and give data.path=FOLDER."
        ) from None
    except Exception as error:  # of a dozen types where an archive is not as it was written
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{where} cannot be read: {error.strerror}.") from None
        raise UserError(f"{where} is damaged ({error}): fetch it again.") from None


def _state(path: Path) -> tuple[int, int]:
    """What changes with a file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _names(name: str) -> list[str]:
    """What a file may be called, the name that was given first."""
    stem = name.removesuffix(".gz").rpartition(".")[0]
    names = dict.fromkeys([name, *(f"{stem}.{form}" for form in FORMS)])
    return [found for one in names for found in (one, f"{one}.gz")]


def _form(name: str) -> str:
    """jsonl of corpus.jsonl.gz."""
    return name.removesuffix(".gz").rpartition(".")[2]


def _part(name: str) -> str:
    """corpus of corpus.jsonl."""
    return Path(name).name.partition(".")[0]


def _streamed(rows: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row), what goes wrong on the way as a `UserError`."""
    try:
        for number, row in enumerate(rows, start=1):
            yield f"{where}, row {number}", row
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
