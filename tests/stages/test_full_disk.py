"""A disk that is full is told as that, by whatever library the write failed in."""

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from few_steps import few_steps
from safetensors.torch import save_file

from lion_sweep.cell.tasks import failure_class
from lion_sweep.data.arrays import save
from lion_sweep.errors import Superseded, UserError, of_disk
from lion_sweep.models.proxy import train_tokenizer
from lion_sweep.stages import engine

LARGEST = 4096  # bytes of a file
WEIGHTS = {"weights": torch.ones(LARGEST)}
WORDS = [" ".join(f"word{n}" for n in range(start, start + 40)) for start in range(0, 400, 40)]
WRITERS: dict[str, Callable[[Path], Any]] = {
    "a checkpoint": lambda folder: few_steps(folder, Accelerator(cpu=True), width=40).save(1, {}),
    "weights": lambda folder: save_file(WEIGHTS, folder / "model.safetensors"),
    "a tokenizer": lambda folder: train_tokenizer(WORDS).save_pretrained(folder),
    "an array": lambda folder: save(folder / "array.npy", WEIGHTS["weights"].numpy()),
    "text": lambda folder: (folder / "text").write_text("x" * 2 * LARGEST),
}


@contextmanager
def small_files() -> Iterator[None]:
    """No file may be larger, as none may where a quota or a disk is at its end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what", WRITERS)
def test_a_write_that_fails_is_told_as_that(tmp_path: Path, what: str) -> None:
    def work(folder: Path) -> dict[str, Any]:
        with small_files():
            WRITERS[what](folder)
        raise AssertionError("it was written")

    with pytest.raises(OSError, match=f"as train wrote below {tmp_path}: free some") as told:
        engine.run(engine.folder_of(tmp_path, "train", {}), {}, work)
    assert told.value.errno == errno.EFBIG
    assert failure_class(told.value) == "disk full"


def raised_within(inner: Exception, outer: Exception) -> Exception:
    """The outer one, as raised where the inner one is dealt with."""
    try:
        try:
            raise inner
        except Exception:
            raise outer  # noqa: B904
    except Exception as error:
        return error


@pytest.mark.parametrize(
    "said", ["I/O error: Disk quota exceeded (os error 122) at path /x", "(os error 122)"]
)
def test_errors_of_rust_have_their_number_in_their_words(said: str) -> None:
    found = of_disk(RuntimeError(said))
    assert found and found.errno == errno.EDQUOT == 122


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape"),
        RuntimeError("of a file (os error 2)"),
        raised_within(OSError(errno.ENOENT, "No such file"), RuntimeError("unexpected pos")),
        raised_within(FULL, UserError("delete it")),
    ],
)
def test_other_failures_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    def work(folder: Path) -> dict[str, Any]:
        raise error

    with pytest.raises(type(error)) as told:
        engine.run(engine.folder_of(tmp_path, "train", {}), {}, work)
    assert told.value is error


@pytest.mark.parametrize("what", WRITERS)
def test_who_writes_in_a_folder_that_was_taken_over_stops(tmp_path: Path, what: str) -> None:
    def work(folder: Path) -> dict[str, Any]:
        folder.rename(f"{folder}.taken")
        WRITERS[what](folder)
        return {}

    with pytest.raises(Superseded):
        engine.run(engine.folder_of(tmp_path, "train", {}), {}, work)
    assert not list(tmp_path.glob(f"stages/*/{engine.DONE}"))
