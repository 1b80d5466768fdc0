"""Masked next-token prediction: what is masked, what is asked, what is learnt.

Shapes: B chunks, L tokens, T tokens of the collection.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

from lion_sweep.config import Adapt, Lora
from lion_sweep.cost.meter import Spending
from lion_sweep.errors import UserError
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.sparse import SparseEncoder
from lion_sweep.training.adapt import IGNORED, Chunks, adapt, corrupt, mask_token, mntp_loss
from lion_sweep.training.optimisation import Optimisation, Run

MakeModel = Callable[..., LlamaForCausalLM]
MASK = 1


def corrupted(seed: int = 0, probability: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, inputs, targets); random tokens come from so many that they never equal an id."""
    ids_BL = np.random.default_rng(1).integers(10, 20, (300, 100))
    rng = np.random.default_rng(seed)
    return (ids_BL, *corrupt(ids_BL, probability, MASK, 10**9, rng))


def test_shares() -> None:
    ids_BL, input_BL, target_BL = corrupted()
    asked_BL = target_BL != IGNORED
    assert asked_BL[:, 1:].mean() == pytest.approx(0.3, abs=0.02)
    masked = (input_BL == MASK)[asked_BL].mean()
    kept = (input_BL == ids_BL)[asked_BL].mean()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1, abs=0.02)
    assert 1 - masked - kept == pytest.approx(0.1, abs=0.02)


def test_only_chosen_tokens_change_and_are_asked() -> None:
    ids_BL, input_BL, target_BL = corrupted()
    asked_BL = target_BL != IGNORED
    assert (target_BL[asked_BL] == ids_BL[asked_BL]).all()
    assert (input_BL[~asked_BL] == ids_BL[~asked_BL]).all()
    # Nothing comes before the first token to predict it from.
    assert not asked_BL[:, 0].any()
    assert asked_BL[:, 1:].any(axis=0).all()


def test_random_tokens_are_in_the_vocabulary() -> None:
    rng = np.random.default_rng(0)
    input_BL, _ = corrupt(np.full((50, 50), 3), 1.0, MASK, 7, rng)
    assert set(np.unique(input_BL)) == set(range(7))


def test_corruption_is_seeded() -> None:
    for one, same in zip(corrupted(3), corrupted(3), strict=True):
        assert (one == same).all()
    assert (corrupted(3)[1] != corrupted(4)[1]).any()
    assert (corrupted(3)[2] != corrupted(4)[2]).any()


def test_loss_reads_the_position_before(backbone: Backbone) -> None:
    input_BL = torch.tensor([[5, 1, 7, 8, 1], [9, 10, 1, 12, 13]])
    target_BL = torch.tensor([[IGNORED, 6, IGNORED, 8, 30], [IGNORED, IGNORED, 11, 12, IGNORED]])
    with torch.no_grad():
        found = mntp_loss(backbone, input_BL, target_BL).item()
        logits_BLV = backbone.model(input_ids=input_BL).logits.double().numpy()
    terms = []
    for row in range(2):
        for place in range(1, 5):
            target = int(target_BL[row, place])
            if target != IGNORED:
                logits = logits_BLV[row, place - 1]
                terms.append(np.log(np.exp(logits).sum()) - logits[target])
    assert len(terms) == 5
    assert found == pytest.approx(np.sum(terms), rel=1e-4)


def test_mask_token() -> None:
    assert mask_token(SimpleNamespace(mask_token_id=4)) == 4
    one = SimpleNamespace(mask_token_id=None, encode=lambda text, **_: [62] if text == "_" else [])
    assert mask_token(one) == 62
    two = SimpleNamespace(mask_token_id=None, encode=lambda text, **_: [62, 63])
    with pytest.raises(UserError, match="mask token"):
        mask_token(two)


IDS_T = (2 + np.arange(200) * np.arange(200) % 12).astype(np.int32)
SETTINGS = Adapt(
    steps=20, batch_size=8, chunk=8, length=64, mask_probability=0.2, learning_rate=1e-2
)


def run(
    backbone: Backbone,
    accelerator: Accelerator,
    folder: Path,
    on_step: Callable[..., None] = lambda *_: None,
    settings: Adapt = SETTINGS,
    lora: Lora | None = None,
    at_once: int = 4096,
) -> dict[str, Any]:
    tokenizer: Any = SimpleNamespace(mask_token_id=MASK)
    optimisation = Optimisation(settings.learning_rate, None, 0.3, 0.0, 1.0, (0.9, 0.98), 1e-5)
    chunks = Chunks(IDS_T, tokenizer, at_once // settings.chunk, settings, lora)
    where = Run(accelerator, folder, 4, on_step)
    return adapt(backbone, chunks, optimisation, 3, where)


def test_adapting_reduces_the_loss(
    backbone: Backbone, accelerator: Accelerator, tmp_path: Path
) -> None:
    seen: list[tuple[int, int, float]] = []
    facts = run(
        backbone,
        accelerator,
        tmp_path,
        lambda done, total, values: seen.append((done, total, values["loss"])),
    )
    losses = [loss for _, _, loss in seen]
    assert [(done, total) for done, total, _ in seen] == [(n, 20) for n in range(1, 21)]
    assert (facts["first_loss"], facts["last_loss"]) == (losses[0], losses[-1])
    planned, spent = (Spending(**facts[kind]) for kind in ("planned", "spent"))
    assert spent.steps == planned.steps == 20
    assert spent.tokens == planned.tokens
    # How many tokens are masked is a matter of chance, the rest is exact.
    assert spent.useful_flops != planned.useful_flops
    assert spent.useful_flops == pytest.approx(planned.useful_flops, rel=0.05)
    assert np.mean(losses[-4:]) < 0.7 * losses[0]


def test_a_killed_adaptation_goes_on(
    make_model: MakeModel, accelerator: Accelerator, tmp_path: Path
) -> None:
    def kill(done: int, *_: object) -> None:
        if done == 10:
            raise KeyboardInterrupt

    (tmp_path / "whole").mkdir()
    whole = Backbone(make_model())
    expected = run(whole, accelerator, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Backbone(make_model()), accelerator, tmp_path, kill)
    resumed, steps = Backbone(make_model()), []
    facts = run(resumed, accelerator, tmp_path, lambda done, *_: steps.append(done))
    assert steps == list(range(9, 21))
    assert facts == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_no_steps_change_nothing(
    make_model: MakeModel, accelerator: Accelerator, tmp_path: Path
) -> None:
    backbone = Backbone(make_model())
    nothing = Spending().as_dict()
    found = run(backbone, accelerator, tmp_path, settings=replace(SETTINGS, steps=0))
    assert found == {"planned": nothing, "spent": nothing}
    for name, value in make_model().state_dict().items():
        assert torch.equal(value, backbone.model.state_dict()[name])


@pytest.mark.parametrize("rows", [4096, 16], ids=["at once", "in parts"])
def test_the_centre_is_the_mean_of_the_largest_logits(
    make_model: MakeModel, accelerator: Accelerator, tmp_path: Path, rows: int
) -> None:
    """Over chunks spread from the first of the collection to its last; it never trains."""
    backbone, settings = Backbone(make_model()), replace(SETTINGS, steps=0, centre=5)
    facts = run(backbone, accelerator, tmp_path, settings=settings, at_once=rows)
    model, largest = make_model().double().eval(), []
    for chunk in (0, 6, 12, 18, 24):  # of 25
        ids_1L = torch.from_numpy(IDS_T[chunk * 8 : chunk * 8 + 8])[None].long()
        with torch.no_grad():
            state_1LD = Backbone(model).hidden_states(ids_1L, torch.ones_like(ids_1L))
        logits_LV = (state_1LD @ model.lm_head.weight.T)[0]
        largest.append((logits_LV - logits_LV.mean(dim=1, keepdim=True)).amax(dim=0))
    expected_V = torch.stack(largest).mean(dim=0)
    centre_V = backbone.added["centre"]
    torch.testing.assert_close(centre_V.detach(), expected_V.float(), atol=1e-5, rtol=1e-5)
    assert not any(weight.requires_grad for weight in backbone.added.values())
    assert facts["planned"] == facts["spent"] and facts["spent"]["tokens"] == 5 * 8
    backbone.save(tmp_path / "weights")
    loaded = Backbone.load(tmp_path / "weights")
    assert torch.equal(loaded.added["centre"], centre_V)
    assert torch.equal(loaded.added["level"], backbone.added["level"])
    assert not any(weight.requires_grad for weight in loaded.added.values())
    sparse = SparseEncoder(loaded, 0.0)
    found_BV = sparse(ids_1L, torch.ones_like(ids_1L)).detach()
    above_V = torch.relu(sparse.scale * (largest[-1] - expected_V))
    torch.testing.assert_close(found_BV[0], torch.log1p(above_V).float(), atol=1e-5, rtol=1e-4)


def test_the_centre_costs_what_torch_counts(
    make_model: MakeModel, accelerator: Accelerator, tmp_path: Path
) -> None:
    lora = Lora(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "up_proj"])
    backbone = Backbone(make_model(attn_implementation="eager")).with_lora(lora)
    settings = replace(SETTINGS, steps=0, centre=5)
    with FlopCounterMode(display=False) as counter:
        facts = run(backbone, accelerator, tmp_path, settings=settings, lora=lora)
    assert facts["spent"]["hardware_flops"] == counter.get_total_flops()


def test_dropout_depends_on_the_seed_alone(
    make_model: MakeModel, accelerator: Accelerator, tmp_path: Path
) -> None:
    lora = Lora(rank=4, alpha=8, dropout=0.3, targets=["q_proj", "up_proj"])
    found = []
    for state in (1, 2):
        backbone = Backbone(make_model()).with_lora(lora)
        torch.manual_seed(state)
        (tmp_path / str(state)).mkdir()
        run(backbone, accelerator, tmp_path / str(state), lora=lora)
        found.append(backbone.trainable())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_too_little_text_is_refused(
    backbone: Backbone, accelerator: Accelerator, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"recipe\.adapt\.chunk=201"):
        run(backbone, accelerator, tmp_path, settings=replace(SETTINGS, chunk=201))
