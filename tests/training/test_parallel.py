"""Two ranks must take the step that one would."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from commands import spread
from torch import Tensor, nn

from lion_sweep.data.batches import Step
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.flops import FlopsRegulariser
from lion_sweep.losses.representations import Representations
from lion_sweep.training.loop import share
from lion_sweep.training.parallel import average_gradients, gather

QUERIES, GROUP, INPUTS, DIMENSIONS = 8, 3, 5, 4


def gradients(rank: int, world: int, folder: str, port: int, threshold: float) -> None:
    """Gradients of one step on `world` ranks; rank 0 saves them, and how it gathered.

    The higher the threshold, the fewer entries of the vectors are active.
    """
    if world > 1:
        os.environ.update(
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
        )
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == world
    torch.manual_seed(0)
    layer = nn.Linear(INPUTS, DIMENSIONS)
    query_QI, passage_NI = torch.randn(QUERIES, INPUTS), torch.randn(QUERIES * GROUP, INPUTS)
    rows = np.arange(QUERIES)
    step = Step(
        rows, np.arange(QUERIES * GROUP).reshape(QUERIES, GROUP), np.zeros((QUERIES, GROUP))
    )
    part = share(step, accelerator)
    query_BD: Tensor = (layer(query_QI[part.query_B]) - threshold).relu()
    passage_ND: Tensor = (layer(passage_NI[part.passage_BG.ravel()]) - threshold).relu()
    reps = Representations(
        query_BD=query_BD,
        passage_BGD=passage_ND.unflatten(0, part.passage_BG.shape),
        all_query_QD=gather(query_BD, accelerator, sparse=True),
        candidate_CD=gather(passage_ND, accelerator, sparse=True),
        offset=rank * len(passage_ND),
        temperature=0.5,
    )
    loss = Contrastive(weight=1.0)(reps)
    loss = loss + sum(FlopsRegulariser(0.3, 0.2, 0.0)(reps, 1.0).values())
    accelerator.backward(loss)
    average_gradients(list(layer.parameters()), accelerator)
    if rank == 0:
        found = [p.grad for p in layer.parameters()], type(reps.candidate_CD.grad_fn).__name__
        torch.save(found, Path(folder) / f"{world}.pt")


@pytest.mark.parametrize(
    ("threshold", "how"), [(0.0, "_GatherBackward"), (1.2, "_GatherSparseBackward")]
)
def test_two_ranks_equal_one(tmp_path: Path, threshold: float, how: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for ranks in (1, 2):
        spread(gradients, ranks, ranks, str(tmp_path), port, threshold)
    (one, _), (two, gathered) = (torch.load(tmp_path / f"{world}.pt") for world in (1, 2))
    assert gathered == how
    assert all(grad.any() for grad in one)
    for alone, together in zip(one, two, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_every_query_is_in_the_share_of_one_rank() -> None:
    step = Step(np.arange(12), np.arange(24).reshape(12, 2), np.zeros((12, 2)))
    seen = []
    for rank in range(3):
        part = share(step, SimpleNamespace(num_processes=3, process_index=rank))
        assert len(part.query_B) == 4
        seen += part.query_B.tolist()
    assert seen == list(range(12))
