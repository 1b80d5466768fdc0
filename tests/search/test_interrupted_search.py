"""A search that is killed, or runs out of disk, and is then asked for again: the same run files.

The processes that die kill themselves, at a function that a test has replaced.
"""

import errno
import fcntl
import os
import resource
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import FORKS, serve
from scipy import sparse
from support import searched

from lion_sweep.cell.tasks import failure_class
from lion_sweep.search import anserini
from lion_sweep.search.anserini import missing
from lion_sweep.search.lucene import LuceneImpactIndex
from lion_sweep.search.runs import Run
from lion_sweep.search.seismic import SeismicIndex
from lion_sweep.search.sparse import SparseIndex
from lion_sweep.stages import engine
from lion_sweep.stages import search as search_stage
from lion_sweep.stages.engine import Done
from lion_sweep.stages.search import RUN, TREC

REASON = missing()
needs_lucene = pytest.mark.skipif(bool(REASON), reason=f"Lucene cannot run here: {REASON}")
needs_seismic = pytest.mark.skipif(bool(SeismicIndex.missing()), reason="no Seismic here")
Kill = Callable[[Path], None]


def vectors(seed: int, rows: int) -> sparse.csr_matrix:
    generator = np.random.default_rng(seed)
    weights = generator.gamma(1.0, 1.0, (rows, 80)) * (generator.random((rows, 80)) < 0.2)
    return sparse.csr_matrix(weights.astype(np.float32))


def search(root: Path, engine: str) -> Done:
    """The search stage of these vectors."""
    return searched(root, vectors(0, 500), vectors(1, 40), f"engine={engine}")


def die(*arguments: Any, **named: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after_calls(count: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; the process dies of the call after `count` of them."""
    calls = iter(range(count))

    def counted(*arguments: Any, **named: Any) -> Any:
        return die() if next(calls, None) is None else function(*arguments, **named)

    return counted


def between_index_and_search(root: Path) -> None:
    SparseIndex.search = die  # type: ignore[method-assign]


def amid_the_arrays(root: Path) -> None:
    whole = np.savez

    def half(file: Any, **arrays: Any) -> None:
        if "query_ids" not in arrays:  # these are the vectors to search
            return whole(file, **arrays)
        file.write(b"half of them")
        file.flush()
        return die()

    np.savez = half  # type: ignore[assignment]


def amid_the_trec_file(root: Path) -> None:
    Run.hits = after_calls(30, Run.hits)  # type: ignore[method-assign]


def before_it_counts_as_done(root: Path) -> None:
    plain = engine.write_json

    def write(path: Path, value: Any) -> None:
        if path.parent.name.startswith("search-"):
            die()
        plain(path, value)

    engine.write_json = write  # type: ignore[assignment]


def amid_indexing_by_lucene(root: Path) -> None:
    """Java lives on, stopped, with the lock on its index."""

    def start(command: list[str], **options: Any) -> None:
        java = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (root / "java.pid").write_text(str(java.pid))
        lock = Path(command[command.index("-index") + 1]) / "write.lock"
        while not _is_locked(lock):
            assert java.poll() is None, "Java ended before anybody saw its lock"
        java.send_signal(signal.SIGSTOP)
        assert _is_locked(lock), "Java let its lock go before it was stopped"
        die()

    subprocess.run = start  # type: ignore[assignment]


def _is_locked(path: Path) -> bool:
    """Whether another process holds a POSIX lock on the file; asking takes none."""
    if not path.exists():
        return False
    with path.open("r+b") as file:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(file, fcntl.F_GETLK, asked)
    return struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK


def between_index_and_search_of_lucene(root: Path) -> None:
    LuceneImpactIndex.search = die  # type: ignore[method-assign]


def amid_the_search_of_lucene(root: Path) -> None:
    anserini.Searcher.hits = after_calls(20, anserini.Searcher.hits)  # type: ignore[method-assign]


def with_the_index_of_seismic_on_disk(root: Path) -> None:
    plain = Path.unlink

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if any(part.startswith("search-") for part in self.parts):
            die()
        plain(self, missing_ok)

    Path.unlink = unlink  # type: ignore[method-assign]


def attempt(root: Path, engine: str, prepared: Kill) -> None:
    prepared(root)
    search(root, engine)


def in_another_process(root: Path, engine: str, prepared: Kill) -> int | None:
    """The exit code of a search that begins with `prepared`."""
    serve()
    process = FORKS.Process(target=attempt, args=(root, engine, prepared))
    process.start()
    process.join(240)
    return process.exitcode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a search that nothing interrupts, by engine."""
    root = tmp_path_factory.mktemp("whole")
    return lambda engine: search(root, engine).folder


@pytest.fixture
def no_java_left(tmp_path: Path) -> Iterator[None]:
    """Ends the Java that a killed process leaves behind."""
    yield
    if (tmp_path / "java.pid").exists():
        os.kill(int((tmp_path / "java.pid").read_text()), signal.SIGKILL)


def assert_same(again: Done, folder: Path) -> None:
    """The same run files, and nothing left of the attempt before."""
    assert not again.reused
    for name in (RUN, TREC):
        assert (again.folder / name).read_bytes() == (folder / name).read_bytes()
    entries = [{path.name for path in at.glob("*")} for at in (folder, again.folder)]
    assert entries[0] == entries[1]
    if "lucene" in entries[0]:
        assert [path.name for path in (again.folder / "lucene").iterdir()] == ["index"]


@pytest.mark.usefixtures("no_java_left")
@pytest.mark.parametrize(
    ("engine", "kill"),
    [
        ("exact", between_index_and_search),
        ("exact", amid_the_arrays),
        ("exact", amid_the_trec_file),
        ("exact", before_it_counts_as_done),
        pytest.param("lucene", amid_indexing_by_lucene, marks=needs_lucene),
        pytest.param("lucene", between_index_and_search_of_lucene, marks=needs_lucene),
        pytest.param("lucene", amid_the_search_of_lucene, marks=needs_lucene),
        pytest.param("seismic", with_the_index_of_seismic_on_disk, marks=needs_seismic),
    ],
)
def test_a_killed_search_is_done_again(
    tmp_path: Path, whole: Callable[[str], Path], engine: str, kill: Kill
) -> None:
    assert in_another_process(tmp_path, engine, kill) == -signal.SIGKILL
    assert len(list(tmp_path.glob("stages/search-*.partial"))) == 1
    assert not list(tmp_path.glob("stages/search-*/done.json"))
    assert_same(search(tmp_path, engine), whole(engine))
    assert not list(tmp_path.glob("stages/search-*.partial"))


def out_of_disk(root: Path, largest_file: int) -> None:
    """A search whose files cannot grow beyond these bytes; what it says goes to a file."""

    def limited(*arguments: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        try:
            write_run(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    write_run = search_stage.write_run
    search_stage.write_run = limited  # type: ignore[assignment]
    try:
        search(root, "exact")
    except OSError as error:
        (root / "said").write_text(f"{failure_class(error)}: {error}")


@pytest.mark.parametrize("full_at", [RUN, TREC])
def test_a_full_disk_is_told_and_the_search_done_again(
    tmp_path: Path, whole: Callable[[str], Path], full_at: str
) -> None:
    folder = whole("exact")
    sizes = {name: (folder / name).stat().st_size for name in (RUN, TREC)}
    assert sizes[RUN] < sizes[TREC]
    serve()
    process = FORKS.Process(target=out_of_disk, args=(tmp_path, sizes[full_at] // 2 + 1))
    process.start()
    process.join(240)
    assert process.exitcode == 0
    said = (tmp_path / "said").read_text()
    assert said.startswith(
        f"disk full: [Errno {errno.EFBIG}] File too large, as search wrote below"
    )
    assert f"{tmp_path}: free some space and give the same command again" in said
    assert not list(tmp_path.glob("stages/search-*/done.json"))
    assert_same(search(tmp_path, "exact"), folder)
