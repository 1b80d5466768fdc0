"""Vectors by shards, which jobs take from each other: those of one job, bit by bit."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from support import HeldTexts
from torch import Tensor

from lion_sweep.config import Config, Precision
from lion_sweep.config.site import SiteName
from lion_sweep.data import arrays
from lion_sweep.data.pretrained import Pretrained
from lion_sweep.data.ragged import Ragged
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.models.multi_vector import MultiVectorEncoder
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.search import parts
from lion_sweep.search.parts import Stored
from lion_sweep.stages import engine
from lion_sweep.stages.base import Stage, beside
from lion_sweep.stages.encode import Encode
from lion_sweep.stages.engine import Done
from lion_sweep.stages.texts import Tokenise
from lion_sweep.stages.workshop import Workshop

Compose = Callable[..., Config]
Of = Callable[..., "Job"]

TEXTS, LONGEST, SHARDS = 60, 16, 5
LENGTHS = np.random.default_rng(0).integers(1, LONGEST + 1, TEXTS)
SHARD_TOKENS = int(LENGTHS.sum()) // SHARDS
PASSAGES = HeldTexts(held={f"d{number}": "" for number in range(TEXTS)})


ENCODERS: dict[str, Callable[[Backbone], Any]] = {
    "dense": lambda backbone: DenseEncoder(backbone, "tokens"),
    "sparse": lambda backbone: SparseEncoder(backbone, 0.5),
    "multi": lambda backbone: MultiVectorEncoder(backbone, 5, 0),
}


class Counting:
    """An encoder that counts its texts and fails in place of the call after `calls` of them."""

    reads_bos = False

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.backbone = encoder, encoder.backbone
        self.made, self.calls = 0, 10**9

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        self._count(ids_BL)
        return self.encoder(ids_BL, mask_BL)

    def rows(self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None) -> Any:
        self._count(ids_BL)
        return self.encoder.rows(ids_BL, mask_BL, largest)

    def _count(self, ids_BL: Tensor) -> None:
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.made += len(ids_BL)


@dataclass(frozen=True)
class Loaded:
    """Weights that are loaded already."""

    encoder: Any = beside()
    source: str = "somewhere"

    @property
    def identity(self) -> str:
        return "some"

    def load(self, shop: Workshop) -> Any:
        return self.encoder


class Job:
    """A process that needs the vectors, or a share of them."""

    def __init__(self, config: Config, backbone: Backbone, kind: str) -> None:
        self.encoder = Counting(ENCODERS[kind](backbone))
        self.progress = Progress("cell", None)
        how = Execution.of(config, SiteName.laptop)
        self.shop = Workshop(Path(config.paths.root), self.progress, how)
        tokens = Cached(PASSAGES, Pretrained("", None, ""), LONGEST, title="tokens").cut(LONGEST)
        how = tokens, None, kind == "sparse", None, Precision.fp32
        named = {"projected": 5 if kind == "multi" else 0, "title": "encode passages"}
        self.vectors = Encode(Loaded(encoder=self.encoder), *how, **named)

    def share(self) -> int:
        return self.vectors.share(self.shop)

    def whole(self) -> Done:
        return self.vectors.whole(self.shop)

    def shard(self, number: int) -> Stage:
        return self.vectors.shards(self.shop)[number]


@dataclass(frozen=True, eq=False)
class Cached(Tokenise):
    """Random tokens."""

    title: str = beside()

    def work(self, shop: Workshop, folder: Path) -> dict[str, Any]:
        generator = np.random.default_rng(1)
        arrays.save(folder / "ids.npy", generator.integers(3, 97, LENGTHS.sum()).astype(np.int32))
        arrays.save(folder / "count.npy", np.array(LENGTHS, dtype=np.int32))
        arrays.save(folder / "around.npy", np.array([0, 0]))
        return {}


@pytest.fixture(params=ENCODERS)
def of(
    request: pytest.FixtureRequest,
    compose_cell: Compose,
    backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Of:
    """A job below a folder; every micro-batch is kept at once."""
    monkeypatch.setattr(parts, "KEEP_SECONDS", 0)

    def made(folder: str, shard_tokens: int = SHARD_TOKENS) -> Job:
        words = [f"paths.root={tmp_path / folder}", f"site.shard_tokens={shard_tokens}"]
        small = ["evaluation.batch_tokens=32", "site.devices=1", "recipe.precision=fp32"]
        return Job(compose_cell(*words, *small), backbone, request.param)

    return made


def assert_same(found: Done, expected: Done) -> None:
    """Vectors bit by bit, and what they cost."""
    ours, theirs = (Stored(done.folder / "vectors").all() for done in (found, expected))
    assert type(ours) is type(theirs)
    if isinstance(ours, Ragged):
        names = ["vectors_TP", "start_M"]
        assert found.facts["vectors"] == LENGTHS.mean()
    else:
        names = ["data", "indices", "indptr"] if sparse.issparse(ours) else ["real"]
    for part in names:
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
    assert {key: found.facts[key] for key in expected.facts} == expected.facts
    assert found.facts["spent"] == found.facts["planned"]
    assert found.folder.name == expected.folder.name


def left(folder: Path) -> list[str]:
    """What there is of shards, locks and all."""
    return sorted(path.name for path in (folder / "stages").glob("*shard-*"))


def shard_lock(job: Job, number: int) -> Path:
    """The lock of a shard's stage that nobody has begun yet."""
    folder = job.shop.root / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f".{job.shard(number).name}.lock"


def test_shards_that_two_jobs_have_taken(of: Of, tmp_path: Path) -> None:
    alone = of("alone", 10**9)
    assert alone.share() == 0  # one shard is none
    expected = alone.whole()
    assert alone.encoder.made == TEXTS
    assert "seconds" not in expected.facts

    first, second, cell = of("jobs"), of("jobs"), of("jobs")
    with engine.locked(shard_lock(first, 1)), engine.locked(shard_lock(first, 3)):
        assert first.share() == SHARDS - 2
        assert f"encode passages 2/{SHARDS}" not in first.progress.mark
    assert second.share() == 2
    shards = [cell.shop.find(cell.shard(number)) for number in range(SHARDS)]
    assert first.encoder.made + second.encoder.made == TEXTS
    found = cell.whole()
    assert cell.encoder.made == 0
    assert_same(found, expected)
    assert found.facts["seconds"] == pytest.approx(sum(s.seconds for s in shards if s), abs=0.01)
    assert found.facts["seconds"] > 0
    assert left(tmp_path / "jobs") == []
    assert second.share() == 0  # as the whole is there
    assert left(tmp_path / "jobs") == []


def test_a_killed_job_and_a_lost_shard(of: Of, tmp_path: Path) -> None:
    expected = of("alone", 10**9).whole()
    killed, again, cell = of("jobs"), of("jobs"), of("jobs")
    killed.encoder.calls = 7  # amid the second shard
    with pytest.raises(KeyboardInterrupt):
        killed.share()
    assert again.share() == SHARDS - 1
    assert again.encoder.made == TEXTS - killed.encoder.made
    cell.shop.remove(cell.shard(2))
    cell.encoder.calls = 1
    with pytest.raises(KeyboardInterrupt):
        cell.whole()
    last = of("jobs")
    assert_same(last.whole(), expected)
    lost = cell.encoder.made + last.encoder.made
    assert 0 < cell.encoder.made < lost < TEXTS / 2
    assert left(tmp_path / "jobs") == []


def test_what_a_killed_process_was_writing_does_not_stay(of: Of, tmp_path: Path) -> None:
    killed, again = of("alone", 10**9), of("alone", 10**9)
    killed.encoder.calls = 3
    with pytest.raises(KeyboardInterrupt):
        killed.whole()
    (partial,) = (tmp_path / "alone" / "stages").glob("encode-*.partial")
    (partial / "vectors" / ".9.npz.1").write_bytes(b"half of it")
    done = again.whole()
    assert 0 < again.encoder.made == TEXTS - killed.encoder.made
    assert {path.suffix for path in (done.folder / "vectors").iterdir()} == {".npz"}


def test_shards_of_another_size_are_not_mixed_with(of: Of) -> None:
    expected = of("alone", 10**9).whole()
    of("jobs").share()
    cell = of("jobs", 2 * SHARD_TOKENS)
    assert_same(cell.whole(), expected)
    assert cell.encoder.made == TEXTS
