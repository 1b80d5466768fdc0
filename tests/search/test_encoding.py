"""Encoding goes on after what was kept, on any number of ranks, with the same vectors and costs."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from scipy import sparse
from torch import Tensor

from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Meter, Spending
from lion_sweep.data.tokens import Tokens
from lion_sweep.search import encoding, parts
from lion_sweep.search.parts import Parts, Stored, take

TEXTS, LONGEST, BATCH = 40, 12, 24
METER = Meter.of_encoding(DecoderShape(8, 12, 2, 4, 2, 2, 30), LONGEST, sparse=True)


class Sums:
    """Vectors that tell which text they are of; fails at the call after `calls` of them."""

    is_sparse = True

    def __init__(self, calls: int = 10**9) -> None:
        self.backbone = torch.nn.Linear(1, 1)
        self.left, self.made = calls, 0

    def __call__(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.made += len(ids_BL)
        total_B = (ids_BL * mask_BL).sum(dim=1).float()
        return torch.stack([total_B, total_B % 3, torch.zeros_like(total_B)], dim=1)

    def rows(self, ids_BL: Tensor, mask_BL: Tensor, largest: int | None = None) -> Any:
        vectors = self(ids_BL, mask_BL).numpy()
        return sparse.csr_matrix(vectors) if self.is_sparse else vectors


def tokens() -> Tokens:
    random = np.random.default_rng(0)
    lengths = random.integers(1, LONGEST + 1, TEXTS)
    start = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(random.integers(3, 1000, start[-1]).astype(np.int32), start)


def encoded(
    folder: Path,
    encoder: Sums,
    is_sparse: bool,
    rank: int = 0,
    ranks: int = 1,
    shard: int = 0,
    shards: int = 1,
) -> None:
    accelerator: Any = Accelerator(cpu=True)
    encoder.is_sparse = is_sparse
    if ranks > 1:
        accelerator = SimpleNamespace(
            process_index=rank,
            num_processes=ranks,
            device=torch.device("cpu"),
            autocast=accelerator.autocast,
            wait_for_everyone=lambda: None,
        )
    encoding.encode(
        encoder,  # type: ignore[arg-type]
        tokens(),
        encoding.Setting(LONGEST, BATCH, None, METER, shard, shards),
        accelerator,
        folder,
        lambda done, total: None,
    )


def whole(*folders: Path) -> tuple[Any, Spending]:
    together = folders[0].with_name(f"{folders[0].name} and {len(folders) - 1} more")
    for folder in folders:
        take(folder, together)
    stored = Stored(together, TEXTS)
    return stored.all(), stored.spent


def assert_same(found: Any, expected: Any) -> None:
    """Bit for bit, entries of CSR in the same order."""
    assert type(found) is type(expected)
    parts = ("data", "indices", "indptr") if sparse.issparse(expected) else ("real",)
    for part in parts:
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
        assert getattr(found, part).dtype == getattr(expected, part).dtype


def dense(vectors: Any) -> np.ndarray:
    return vectors.toarray() if sparse.issparse(vectors) else vectors


@pytest.mark.parametrize("is_sparse", [False, True])
def test_an_interrupted_encoding_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sparse: bool
) -> None:
    encoded(tmp_path / "whole", alone := Sums(), is_sparse)
    expected, cost = whole(tmp_path / "whole")
    sums = [int(tokens().text(row, LONGEST).sum()) for row in range(TEXTS)]
    assert dense(expected)[:, 0].tolist() == sums
    assert cost.tokens == tokens().lengths(LONGEST).sum()
    assert alone.made == TEXTS
    monkeypatch.setattr(parts, "KEEP_SECONDS", 0)
    made = 0
    for calls in (3, 1, 4):
        encoder = Sums(calls)
        with pytest.raises(KeyboardInterrupt):
            encoded(tmp_path / "parts", encoder, is_sparse)
        made += encoder.made
    last = Sums()
    encoded(tmp_path / "parts", last, is_sparse)
    found, spent = whole(tmp_path / "parts")
    assert made + last.made == TEXTS
    assert 0 < last.made < TEXTS
    assert_same(found, expected)
    assert spent == cost


def test_ranks_share_the_texts_and_another_number_of_them_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded(tmp_path / "whole", Sums(), True)
    expected, cost = whole(tmp_path / "whole")
    monkeypatch.setattr(parts, "KEEP_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "parts", Sums(2), True)
    made = []
    for rank in range(3):
        encoder = Sums()
        encoded(tmp_path / "parts", encoder, True, rank, 3)
        made.append(encoder.made)
    found, spent = whole(tmp_path / "parts")
    assert min(made) > 0
    assert_same(found, expected)
    assert spent == cost


@pytest.mark.parametrize("is_sparse", [False, True])
def test_shards_make_the_whole(tmp_path: Path, is_sparse: bool) -> None:
    encoded(tmp_path / "whole", Sums(), is_sparse)
    expected, cost = whole(tmp_path / "whole")
    folders, made, costs = [tmp_path / str(shard) for shard in range(4)], [], []
    for shard, folder in reversed([*enumerate(folders)]):
        encoded(folder, encoder := Sums(), is_sparse, shard=shard, shards=4)
        made.append(encoder.made)
        with np.load(next(folder.glob("*.npz"))) as part:
            costs.append(Spending(*part["spent"].tolist()).useful_flops)
    assert sum(made) == TEXTS
    assert max(costs) < 1.4 * min(costs)  # so few micro-batches cannot be shared more evenly
    found, spent = whole(*folders)
    assert_same(found, expected)
    assert spent == cost
    with pytest.raises(ValueError, match=f"{TEXTS - made[0]} of {TEXTS} texts are encoded"):
        whole(*folders[:-1])


def test_other_micro_batches_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is encoded twice where batches are cut otherwise than before."""
    encoded(tmp_path / "whole", Sums(), True)
    expected, _ = whole(tmp_path / "whole")
    monkeypatch.setattr(parts, "KEEP_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "parts", before := Sums(3), True)
    monkeypatch.setattr(f"{__name__}.BATCH", 2 * BATCH)
    encoded(tmp_path / "parts", after := Sums(), True)
    assert before.made + after.made == TEXTS
    assert_same(whole(tmp_path / "parts")[0], expected)


def vectors(kind: str) -> Any:
    """Of 50 texts."""
    random = np.random.default_rng(0)
    if kind == "sparse":
        dense_NV = random.random((50, 9)) * (random.random((50, 9)) < 0.3)
        dense_NV[[0, 20, 49]] = 0  # texts without a term
        return sparse.csr_matrix(dense_NV.astype(np.float32))
    if kind == "two each":
        return random.random((50, 2, 3)).astype(np.float32)
    return random.random((50, 4)).astype(kind)


def written(folder: Path, made: Any, at_once: int) -> None:
    writer = Parts(folder, made.shape[0])
    order = np.random.default_rng(1).permutation(made.shape[0])
    for rows in np.split(order, range(at_once, len(order), at_once)):
        writer.add(rows, made[rows], Spending(tokens=len(rows)))
        writer.keep()


@pytest.mark.parametrize("kind", ["float32", "float16", "two each", "sparse"])
@pytest.mark.parametrize("at_once", [1, 8, 50])
def test_parts_are_read_in_the_order_of_rows(tmp_path: Path, kind: str, at_once: int) -> None:
    made = vectors(kind)
    written(tmp_path, made, at_once)
    stored = Stored(tmp_path, 50)
    assert (stored.shape, stored.dtype, stored.kind) == (
        made.shape,
        made.dtype,
        "sparse" if kind == "sparse" else "dense",
    )
    assert stored.nnz == (made.nnz if kind == "sparse" else made.size)
    assert stored.spent == Spending(tokens=50)
    assert_same(stored.all(), made)
    for start, stop in ((0, 1), (13, 29), (49, 50), (45, 60)):
        assert_same(stored.rows(start, stop), made[start:stop])
    found = dict(stored.blocks(16))
    assert list(found) == [0, 16, 32, 48]
    for start, block in found.items():
        assert_same(block, made[start : start + 16])
    if kind == "sparse":
        assert stored.terms_V.tolist() == made.getnnz(axis=0).tolist()


def test_no_more_of_a_part_is_read_than_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, vectors("sparse"), 25)
    stored, stretches = Stored(tmp_path), []

    def counted(part: Any, first: int, last: int, read: Any = parts._Part.vectors) -> Any:
        stretches.append(last - first)
        return read(part, first, last)

    monkeypatch.setattr(parts._Part, "vectors", counted)
    for _ in stored.blocks(10):
        assert sum(stretches) == 10 and len(stretches) <= 2
        stretches.clear()


def test_parts_that_are_not_the_whole(tmp_path: Path) -> None:
    made = vectors("float32")
    with pytest.raises(ValueError, match="0 of 0 texts"):
        Stored(tmp_path)
    writer = Parts(tmp_path, 50)
    for rows in (np.arange(30), np.arange(31, 51)):  # one is missing, one twice
        writer.add(np.minimum(rows, 49), made[:1].repeat(len(rows), axis=0), Spending())
        writer.keep()
    with pytest.raises(ValueError, match="50 of 50 texts"):
        Stored(tmp_path, 50)
    with pytest.raises(ValueError, match="50 of 51 texts"):
        Stored(tmp_path, 51)


def test_a_part_is_kept_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "KEEP_BYTES", 20 * 16)
    made, writer = vectors("float32"), Parts(tmp_path, 50)
    full = []
    for first in range(0, 30, 10):
        writer.add(np.arange(first, first + 10), made[first : first + 10], Spending())
        full.append(writer.full)
        if writer.full:
            writer.keep()
    assert full == [False, True, False]
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]


@pytest.mark.parametrize("links", [True, False])
def test_parts_of_shards_outlive_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """By links, so that vectors take their space once; by copies where there are none."""

    def refused(*_: Any) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr("os.link", refused)
    made = vectors("sparse")
    written(tmp_path / "shard", made, 20)
    take(tmp_path / "shard", tmp_path / "whole")
    (part, *_) = (tmp_path / "whole").iterdir()
    assert part.stat().st_nlink == 1 + links
    shutil.rmtree(tmp_path / "shard")
    assert_same(Stored(tmp_path / "whole", 50).all(), made)


def test_a_leader_by_itself_encodes_all_and_waits_for_nobody(tmp_path: Path) -> None:
    """As a teacher's texts are."""
    device, autocast = torch.device("cpu"), Accelerator(cpu=True).autocast
    team: Any = SimpleNamespace(process_index=0, num_processes=2, device=device, autocast=autocast)
    setting, encoder = encoding.Setting(LONGEST, BATCH, None, METER), Sums()
    where = team, tmp_path, lambda done, total: None
    encoding.encode(encoder, tokens(), setting, *where, alone=True)  # type: ignore[arg-type]
    assert encoder.made == len(Stored(tmp_path)) == TEXTS
