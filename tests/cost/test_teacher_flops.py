"""What a teacher costs, against a counter of real operations."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, GPT2Config, LlamaForCausalLM

from lion_sweep.cost.ledger import teacher_flops
from lion_sweep.errors import UserError

MakeModel = Callable[..., LlamaForCausalLM]


@pytest.mark.parametrize(("layers", "width", "heads"), [(2, 32, 4), (3, 24, 2)])
def test_a_bert_teacher_costs_what_pytorch_counts(layers: int, width: int, heads: int) -> None:
    """All but the pooling layer, 2 D^2 per text, which scores do not use."""
    config = BertConfig(
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        attn_implementation="eager",
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(3, 11, dtype=torch.int64))
    assert counter.get_total_flops() == 3 * teacher_flops(config, np.array([11]))[0]


def test_a_decoder_as_teacher_costs_its_forward_pass(make_model: MakeModel) -> None:
    model = make_model(attn_implementation="eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.model(input_ids=torch.ones(2, 9, dtype=torch.int64), use_cache=False)
    assert counter.get_total_flops() == 2 * teacher_flops(model.config, np.array([9]))[0]


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(UserError, match=r"teacher's encoder of type 'gpt2' has no known shape"):
        teacher_flops(GPT2Config(), np.array([3]))
