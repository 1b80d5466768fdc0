"""Two ranks that share a decoder's layers must take the steps of two that hold it whole.

Shapes: P training pairs, M mined negatives, N texts, T tokens of all texts.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from commands import spread
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import LlamaForCausalLM

from lion_sweep import config as configuration
from lion_sweep.config import Config
from lion_sweep.cost.ledger import DecoderShape
from lion_sweep.cost.meter import Meter
from lion_sweep.data.batches import Sampler
from lion_sweep.data.groups import Groups
from lion_sweep.data.lengths import LengthCounts
from lion_sweep.data.tokens import Tokens
from lion_sweep.models.backbone import Backbone
from lion_sweep.stages.weights import shard
from lion_sweep.training import embedding, loop
from lion_sweep.training.adapt import Chunks, adapt
from lion_sweep.training.fit import plan
from lion_sweep.training.optimisation import CHECKPOINT, Optimisation, Run

RANKS, STEPS, PAIRS, PASSAGES = 2, 4, 12, 60
TOKENS = 24  # of a micro-batch
SMALL = [
    "ladder=full",
    "budget=steps",
    f"budget.steps={STEPS}",
    "loss=cl",
    "loss.batch_size=4",
    "loss.negatives=2",
    "recipe.lora.rank=4",
    "recipe.learning_rate=1e-2",
    "recipe.epsilon=1e-2",  # of AdamW: it would make of rounding around 0 a whole step
    "recipe.checkpoint_every=2",
    "recipe.adapt.steps=3",
    "recipe.adapt.batch_size=8",
    "recipe.adapt.chunk=8",
    "recipe.adapt.learning_rate=1e-2",
    f"recipe.micro_batch_tokens={TOKENS}",
]
# accelerate's name of the number format, and how far results may be apart, relative and absolute:
# gathered weights lie elsewhere than loaded ones, and kernels choose how to sum by that.
SETTINGS = {"fp32": ("no", 1e-4, 2e-6), "bf16": ("bf16", 2e-2, 2e-3)}
CELLS = {
    "dense": ["paradigm=dense", "recipe.lora.dropout=0.3"],
    "sparse": ["paradigm=sparse", "recipe.lora.dropout=0.3"],
    "plain": ["paradigm=dense", "recipe.lora.dropout=0"],
}
MakeModel = Callable[..., LlamaForCausalLM]
Found = tuple[str, Path, list[dict[str, Any]]]


def data(config: Config) -> tuple[Sampler, Tokens, Tokens]:
    """Random texts in random groups; ranks cut theirs into different numbers of micro-batches."""
    rng = np.random.default_rng(2)

    def texts(count: int) -> Tokens:
        start_N = np.concatenate([[0], np.cumsum(rng.integers(1, 17, count))])
        return Tokens(rng.integers(3, 97, start_N[-1]).astype(np.int32), start_N)

    groups = Groups(
        query_P=np.arange(PAIRS, dtype=np.int32),
        positive_P=np.arange(PAIRS, dtype=np.int32),
        negative_PM=rng.integers(PAIRS, PASSAGES, (PAIRS, 5)).astype(np.int32),
        positive_score_P=np.zeros(PAIRS, dtype=np.float32),
        negative_score_PM=np.zeros((PAIRS, 5), dtype=np.float32),
    )
    sampler = Sampler(groups, config.loss.batch_size, config.loss.negatives, config.seed)
    return sampler, texts(PAIRS), texts(PASSAGES)


class Two:
    """What one of the two ranks does, and what it found."""

    def __init__(self, folder: Path, configs: dict[str, Config], setting: str) -> None:
        self.accelerator = Accelerator(cpu=True, mixed_precision=SETTINGS[setting][0])
        self.folder, self.configs, self.setting = folder, configs, setting
        self.found: dict[str, Any] = {}

    def backbone(self, config: Config, *, sharded: bool) -> Backbone:
        dtype = torch.bfloat16 if self.setting == "bf16" else torch.float32
        torch.manual_seed(1)
        backbone = Backbone.load(self.folder / "base", dtype).with_lora(config.recipe.lora)
        for parameter in backbone.trainable().values():
            torch.nn.init.normal_(parameter, std=0.1)
        if sharded:
            shard(backbone, init_device_mesh("cpu", (RANKS,)))
        return backbone

    def train(
        self,
        cell: str,
        *,
        cached: bool,
        sharded: bool,
        killed: int = 0,
        resumed: bool = False,
    ) -> Backbone:
        config = self.configs[cell]
        backbone = self.backbone(config, sharded=sharded)
        sampler, queries, passages = data(config)
        shape = DecoderShape.of(backbone.language_model.config)
        lengths = LengthCounts(
            sampler, queries.lengths(64), passages.lengths(64), micro_batch_tokens=TOKENS, parts=2
        )
        sparse, lora = cell == "sparse", config.recipe.lora
        meter = Meter.of_training(shape, lengths.longest, sparse=sparse, lora=lora, cached=cached)
        planned = plan(config.budget, lengths, meter)
        batches: list[int] = []

        class Counted(embedding.Embedding):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                batches.append(len(self.batches))

        def on_step(done: int, *_: object) -> None:
            if done == killed:
                raise KeyboardInterrupt

        loop.Embedding = Counted
        folder = self.folder / f"{cell}-{cached}-{sharded}"
        folder.mkdir(exist_ok=True)
        if not resumed:
            (folder / CHECKPOINT).unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        kept = config.recipe.lengths.query, config.recipe.lengths.passage
        texts, supervision = (queries, passages, kept), loop.Supervision.of(config)
        how = meter, planned, TOKENS, cached, supervision
        steps = loop.TrainingData(sampler, *texts, *how)
        encoder = instantiate(config.paradigm.encoder, backbone=backbone)
        recipe = config.recipe
        facts = loop.train(
            encoder,
            steps,
            Optimisation.of(recipe, recipe),
            config.seed,
            Run(self.accelerator, folder, recipe.checkpoint_every, on_step),
        )
        self.note(f"{cell} {cached} {sharded}", backbone)
        self.found[f"{cell} {cached} {sharded}"] |= {
            "loss": facts["loss"],
            "spent": facts["spent"],
            "planned": planned.as_dict(),
            "batches": batches,
        }
        return backbone

    def adapt(self, *, sharded: bool) -> None:
        config = self.configs["dense"]
        backbone = self.backbone(config, sharded=sharded)
        tokenizer: Any = SimpleNamespace(mask_token_id=1)
        recipe = config.recipe
        rows, mntp = TOKENS // recipe.adapt.chunk, recipe.adapt
        chunks = Chunks(data(config)[2].ids_T, tokenizer, rows, mntp, recipe.lora)
        folder = self.folder / f"adapt-{sharded}"
        folder.mkdir(exist_ok=True)
        facts = adapt(
            backbone,
            chunks,
            Optimisation.of(recipe, recipe.adapt),
            3,
            Run(self.accelerator, folder, recipe.checkpoint_every, lambda *_: None),
        )
        self.note(f"adapt {sharded}", backbone)
        self.found[f"adapt {sharded}"] |= {
            "loss": [facts["first_loss"], facts["last_loss"]],
            "spent": facts["spent"],
            "planned": facts["planned"],
        }

    def note(self, title: str, backbone: Backbone) -> None:
        weights = {name: p.detach().clone() for name, p in backbone.trainable().items()}
        self.found[title] = {"weights": weights}


def work(rank: int, port: int, folder: Path, configs: dict[str, Config], setting: str) -> None:
    """Everything that takes two ranks; each saves what it found."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(RANKS),
    )
    two = Two(folder, configs, setting)
    with patch.object(embedding, "most", lambda count, _: count):
        two.train("plain", cached=False, sharded=False)
    two.train("plain", cached=False, sharded=True)
    for cell, cached in (("dense", False), ("sparse", True)):
        for sharded in (False, True):
            backbone = two.train(cell, cached=cached, sharded=sharded)
    for sharded in (False, True):
        two.adapt(sharded=sharded)
    # The last one is sharded.
    kept = {name: p for name, p in backbone.named_parameters() if isinstance(p, DTensor)}
    two.found["sharded"] = {name: p.to_local().numel() / p.numel() for name, p in kept.items()}
    if rank == 0:
        backbone.save(folder / "adapter")
    with pytest.raises(ValueError, match="cannot be merged"):
        backbone.merged()
    # Once more, from the checkpoint of step 2 on.
    whole = two.found.pop("sparse True True")
    with pytest.raises(KeyboardInterrupt):
        two.train("sparse", cached=True, sharded=True, killed=3)
    two.train("sparse", cached=True, sharded=True, resumed=True)
    two.found |= {"resumed": two.found["sparse True True"], "sparse True True": whole}
    torch.save(two.found, folder / f"{rank}.pt")


@pytest.fixture(scope="module", params=SETTINGS)
def found(
    request: pytest.FixtureRequest,
    make_model: MakeModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Found:
    """(setting, folder, what each of two ranks found)."""
    folder = tmp_path_factory.mktemp(request.param)
    make_model(num_hidden_layers=3).save_pretrained(folder / "base")
    configuration.register()
    with initialize_config_dir(str(configuration.config_folder()), version_base="1.3"):
        composed = {
            name: compose("config", overrides=[*SMALL, *words]) for name, words in CELLS.items()
        }
    configs = {name: configuration.resolve(config) for name, config in composed.items()}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spread(work, RANKS, port, folder, configs, request.param)
    return request.param, folder, [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


def same(one: dict[str, Any], other: dict[str, Any], rtol: float = 0, atol: float = 0) -> None:
    """Equal losses and adapters."""
    assert one["loss"] == pytest.approx(other["loss"], rel=rtol, abs=atol)
    torch.testing.assert_close(one["weights"], other["weights"], rtol=rtol, atol=atol)


@pytest.mark.parametrize("title", ["dense False", "sparse True", "adapt"])
def test_sharded_layers_change_nothing(found: Found, title: str) -> None:
    """With graphs kept and with cached gradients, both with dropout, and in MNTP."""
    setting, _, ranks = found
    for rank in ranks:
        same(rank[f"{title} True"], rank[f"{title} False"], *SETTINGS[setting][1:])
        assert len(set(rank[f"{title} True"]["loss"])) > 1
    one, other = (rank[f"{title} True"]["weights"] for rank in ranks)
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_ranks_take_as_many_micro_batches_and_the_same_steps(found: Found) -> None:
    setting, _, ranks = found
    own, together = (
        [rank[title]["batches"] for rank in ranks]
        for title in ("plain False False", "plain False True")
    )
    assert own[0] != own[1]
    assert together[0] == together[1] == [max(counts) for counts in zip(*own, strict=True)]
    if setting == "fp32":  # products of other sizes are rounded differently, which bf16 shows
        for rank in ranks:
            same(rank["plain False True"], rank["plain False False"], *SETTINGS[setting][1:])


def test_what_is_spent_is_what_was_planned(found: Found) -> None:
    for rank in found[2]:
        for title in ("dense False True", "sparse True True"):
            assert rank[title]["spent"] == rank[title]["planned"]


def test_what_two_ranks_adapt_on_is_what_was_planned(found: Found) -> None:
    """All of it on either rank; how many tokens are asked for is a matter of chance."""
    for rank in found[2]:
        spent, planned = (rank["adapt True"][kind] for kind in ("spent", "planned"))
        assert (spent["steps"], spent["tokens"]) == (planned["steps"], planned["tokens"])
        for key in ("useful_flops", "hardware_flops"):
            assert spent[key] == pytest.approx(planned[key], rel=0.05)


def test_a_killed_run_goes_on_sharded(found: Found) -> None:
    for rank in found[2]:
        resumed, whole = rank["resumed"], rank["sparse True True"]
        assert len(resumed["batches"]) == STEPS - 2
        # A checkpoint's losses are those of the first rank.
        last = [result | {"loss": result["loss"][2:]} for result in (resumed, whole)]
        same(*last)
        assert resumed["spent"] == whole["spent"]


def test_of_frozen_layers_a_rank_keeps_its_share(found: Found, make_model: MakeModel) -> None:
    layer = make_model().model.layers[0]
    for rank in found[2]:
        assert len(rank["sharded"]) == 3 * len(list(layer.parameters()))
        assert set(rank["sharded"].values()) == {1 / RANKS}
        assert all(".layers." in name and "lora" not in name for name in rank["sharded"])


def test_the_adapter_of_a_sharded_decoder_is_whole(found: Found) -> None:
    _, folder, ranks = found
    again = Backbone.load(folder / "base").with_adapter(folder / "adapter")
    saved = {name: p.detach() for name, p in again.trainable().items()}
    torch.testing.assert_close(saved, ranks[0]["sparse True True"]["weights"], rtol=0, atol=0)


def test_a_layer_that_trains_is_not_sharded(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="every weight of a layer trains"):
        shard(Backbone(make_model()), SimpleNamespace())
