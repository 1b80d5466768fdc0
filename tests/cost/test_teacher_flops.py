"""What a teacher costs, against a counter of real operations."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    LlamaForCausalLM,
)

from lion_sweep.cost.ledger import teacher_flops
from lion_sweep.cost.meter import Meter
from lion_sweep.errors import UserError

MakeModel = Callable[..., LlamaForCausalLM]


def bert(layers: int, width: int, heads: int) -> BertConfig:
    return BertConfig(
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=1,
        attn_implementation="eager",
    )


@pytest.mark.parametrize(("layers", "width", "heads"), [(2, 32, 4), (3, 24, 2)])
def test_a_bert_teacher_costs_what_pytorch_counts(layers: int, width: int, heads: int) -> None:
    """All but the pooling layer, 2 D^2 per text, which scores do not use."""
    config = bert(layers, width, heads)
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(3, 11, dtype=torch.int64))
    assert counter.get_total_flops() == 3 * teacher_flops(config, np.array([11]))[0]


@pytest.mark.parametrize("classifies", [False, True])
def test_what_stands_above_the_layers_is_counted_once_for_each_text(classifies: bool) -> None:
    config = bert(2, 24, 3)
    kind = BertForSequenceClassification if classifies else BertModel
    model = kind(config, **({} if classifies else {"add_pooling_layer": False})).eval()
    meter = Meter.of_teacher(config, 11, classifies=classifies)
    for length in (4, 11):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(input_ids=torch.ones(3, length, dtype=torch.int64))
        spent = meter.micro_batch(np.full(3, length), length)
        assert counter.get_total_flops() == spent.useful_flops == spent.hardware_flops
        assert (spent.steps, spent.tokens) == (0, 3 * length)


def test_a_projection_of_every_token_is_counted() -> None:
    config = bert(2, 24, 3)
    plain, projected = Meter.of_teacher(config, 11), Meter.of_teacher(config, 11, projection=7)
    added_L = projected.useful_L - plain.useful_L
    assert added_L.tolist() == [2 * 24 * 7 * length for length in range(12)]
    assert (projected.hardware_L == projected.useful_L).all()


def test_a_decoder_as_teacher_costs_its_forward_pass(make_model: MakeModel) -> None:
    model = make_model(attn_implementation="eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.model(input_ids=torch.ones(2, 9, dtype=torch.int64), use_cache=False)
    assert counter.get_total_flops() == 2 * teacher_flops(model.config, np.array([9]))[0]


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(UserError, match=r"teacher's encoder of type 'gpt2' has no known shape"):
        teacher_flops(GPT2Config(), np.array([3]))
