"""Compiled layers give what they give uncompiled: losses, gradients, dropout, vectors."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch._inductor.config as inductor
from accelerate import Accelerator
from torch import Tensor
from transformers import LlamaForCausalLM

from lion_sweep.config import Lora
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.compiled import Compilation, compiled
from lion_sweep.models.dense import DenseEncoder
from lion_sweep.training.embedding import Embedding

LENGTHS = (3, 11, 2, 7, 7, 16, 2, 9, 5, 6)  # micro-batches of 40 tokens have 2, 4, 4 rows
TOKENS = 40
LORA = Lora(rank=4, alpha=8, dropout=0.3, targets=["q_proj", "up_proj"])
Pair = tuple[Backbone, Backbone, Compilation]


@pytest.fixture(scope="module")
def pair(
    make_model: Callable[..., LlamaForCausalLM], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """(uncompiled, compiled, what compiling takes) of one decoder with adapters.

    Its embeddings train too, so that the first layer needs no graph of its own: each takes long.
    """
    backbones = []
    for _ in range(2):
        backbones.append(Backbone(make_model(hidden_size=24)).with_lora(LORA).train())
        backbones[-1].language_model.get_input_embeddings().requires_grad_()
        for name, parameter in backbones[-1].trainable().items():
            if "lora" in name:
                torch.nn.init.normal_(parameter, std=0.2 if "lora_B" in name else 0.1)
    # Plain code without optimisation is compiled in half the time.
    quick = {"aot_inductor.debug_compile": True, "cpp.simdlen": 1}
    with pytest.MonkeyPatch.context() as patch, inductor.patch(quick):
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        with compiled(backbones[1]) as taken:
            yield *backbones, taken


def step(
    backbone: Backbone, dropout: float, *, cached: bool
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """(vectors, gradients, the next random numbers) of a step."""
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 97, size=length).astype(np.int32) for length in LENGTHS]
    torch.manual_seed(3)
    backbone.zero_grad()
    encoder = DenseEncoder(backbone, "mean")
    embedding = Embedding(encoder, texts, TOKENS, Accelerator(cpu=True), cached=cached)
    (embedding.vectors_ND @ embedding.vectors_ND.T).exp().sum().backward()
    embedding.backward()
    gradients = {name: p.grad.clone() for name, p in backbone.trainable().items()}
    return embedding.vectors_ND.detach(), gradients, torch.rand(3)


@pytest.mark.parametrize("cached", [False, True])
def test_a_compiled_step_is_the_uncompiled_one_with_its_dropout(pair: Pair, cached: bool) -> None:
    """And it leaves the random generator where the uncompiled one does."""
    plain, under_test, taken = pair
    vectors, gradients, after = step(plain, 0.3, cached=cached)
    found = step(under_test, 0.3, cached=cached)
    torch.testing.assert_close(found[0], vectors, rtol=1e-5, atol=1e-5)
    assert max(grad.abs().max() for grad in gradients.values()) > 1e-2
    torch.testing.assert_close(found[1], gradients, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[2], after, rtol=0, atol=0)
    assert not torch.allclose(step(plain, 0.0, cached=False)[0], vectors, rtol=1e-2, atol=1e-2)
    # Two layers share the graph with gradients, and the one without.
    assert taken.graphs == 1 + cached
    assert taken.seconds > 0
