"""Texts with a vector per token over two ranks, whose longest differ: the gradients of one."""

import os
import socket
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from commands import spread
from transformers import LlamaConfig, LlamaForCausalLM

from lion_sweep.data.batches import Step
from lion_sweep.losses.contrastive import Contrastive
from lion_sweep.losses.representations import Representations
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.multi_vector import MultiVectorEncoder
from lion_sweep.training.embedding import Embedding
from lion_sweep.training.loop import share
from lion_sweep.training.parallel import average_gradients, gather

QUERIES, LENGTHS = 4, [3, 2, 1, 4, 6, 2, 9, 3]  # of the queries, then of a passage of each


def gradients(rank: int, world: int, folder: str, port: int) -> None:
    """Of one step on `world` ranks; rank 0 saves them."""
    if world > 1:
        own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": world}
        os.environ.update({name: str(v) for name, v in own.items()}, RANK=str(rank))
        os.environ["LOCAL_RANK"] = str(rank)
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=40, intermediate_size=24, **sizes, is_causal=False)
    encoder = MultiVectorEncoder(Backbone(LlamaForCausalLM(config)), 6, 0)
    random = np.random.default_rng(0)
    texts = [random.integers(1, 40, length).astype(np.int32) for length in LENGTHS]
    rows = np.arange(QUERIES)
    part = share(Step(rows, rows[:, None], np.zeros((QUERIES, 1))), accelerator)
    own = [*part.query_B.tolist(), *(QUERIES + part.passage_BG.ravel()).tolist()]
    embedding = Embedding(encoder, [texts[row] for row in own], 9, accelerator, cached=True)
    query_BD, passage_ND = embedding.vectors_ND.split(len(part.query_B))
    step = Representations(
        query_BD=query_BD,
        passage_BGD=passage_ND[:, None],
        all_query_QD=gather(query_BD, accelerator),
        candidate_CD=gather(passage_ND, accelerator),
        offset=rank * len(passage_ND),
        temperature=0.5,
        scores=encoder,
    )
    accelerator.backward(Contrastive(weight=1.0)(step))
    embedding.backward()
    parameters = encoder.backbone.trainable()
    average_gradients(list(parameters.values()), accelerator)
    if rank == 0:
        found = {name: p.grad for name, p in parameters.items() if p.grad is not None}
        torch.save(found, Path(folder) / f"{world}.pt")


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for ranks in (1, 2):
        spread(gradients, ranks, ranks, str(tmp_path), port)
    one, two = (torch.load(tmp_path / f"{world}.pt") for world in (1, 2))
    assert one["added.projection"].any()
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-6)
