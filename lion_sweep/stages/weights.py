"""The weights that a finished stage left: loading them, saving them, what they are for."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from lion_sweep.config.classes import made
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import duration
from lion_sweep.models.backbone import Backbone
from lion_sweep.models.compiled import compiled
from lion_sweep.models.encoders import Encoder
from lion_sweep.models.probes import check_pooling
from lion_sweep.stages.workshop import Workshop
from lion_sweep.training.optimisation import CHECKPOINT

if TYPE_CHECKING:
    from lion_sweep.stages.train import AdaptDecoder

WEIGHTS = "weights"
MEANT_FOR = "lion_sweep.json"  # beside the weights: what vectors they make


def load(
    start: "AdaptDecoder", execution: Execution, weights: Path | None, *, sharded: bool = False
) -> Backbone:
    """The decoder of `start`, as a finished stage left it in its folder `weights` (None: as it
    came), on this rank's device. `sharded`: frozen layers over those of all ranks, for training.
    """
    # FSDP2's hooks and modules hold each other; the weights of the last stage have to go first.
    gc.collect()
    blueprint, lora, own = start.blueprint, start.lora, weights and weights / WEIGHTS
    attention = start.attention
    dtype, device = execution.frozen_dtype(lora is not None), execution.accelerator.device
    if own and not lora:
        backbone = Backbone.load(own, dtype, attention=attention)
    else:
        backbone = Backbone.load(blueprint.source, dtype, blueprint.revision, attention)
    if lora:
        backbone = backbone.with_adapter(own) if own else backbone.with_lora(lora, start.seed)
    if sharded:  # before the rest moves: the whole may not fit
        shard(backbone, init_device_mesh(device.type, (execution.accelerator.num_processes,)))
    backbone.to(device)
    return backbone


def encoder_of(described: Mapping[str, Any], backbone: Backbone) -> Encoder:
    """The encoder of `paradigm.encoder`. Raises `UserError` where padding changes its vectors."""
    encoder: Encoder = made(described, backbone=backbone)
    check_pooling(encoder)
    return encoder


def shard(backbone: Backbone, ranks: DeviceMesh) -> None:
    """Keep this rank's share of every frozen layer, on its device, in place; the rest stays.

    `ranks` has one dimension. From then on every rank must run as many forward passes, and backward
    ones, as any other. Raises `ValueError` where a layer has nothing frozen.

    Under LoRA the base is frozen, so FSDP2 has nothing to do but gather a layer when a pass comes
    to it; no gradient of it is ever reduced. Adapters stay whole on every rank, in fp32, and their
    optimiser, averaging and checkpoints know nothing of sharding. So do embeddings, final norm and
    head, which losses read outside of any forward pass of the decoder.

    `fully_shard` is called directly. accelerate's plugin is ignored on the CPU, so that no test
    without GPUs could run it; it has to be there before the plan, which counts the ranks, can
    decide; it wants model and optimiser prepared together; and with bf16 it casts what the decoder
    returns.
    """
    decoder = backbone.decoder
    for layer in decoder.get_submodule("layers").children():
        trained = {parameter for parameter in layer.parameters() if parameter.requires_grad}
        if len(trained) == len(list(layer.parameters())):
            raise ValueError("every weight of a layer trains, and only frozen ones are sharded")
        fully_shard(layer, mesh=ranks, ignored_params=trained)
    # The root, which shards nothing: layers without one would neither share their streams nor
    # gather each other ahead.
    fully_shard(decoder, mesh=ranks, ignored_params=set(decoder.parameters()))


def save(backbone: Backbone, folder: Path, execution: Execution) -> None:
    if execution.leads:
        backbone.save(folder / WEIGHTS)
        (folder / CHECKPOINT).unlink(missing_ok=True)


@contextmanager
def compiling(shop: Workshop, work: str, backbone: Backbone) -> Iterator[dict[str, Any]]:
    """Layers compiled while the context lasts, where the site asks; the facts, complete then."""
    facts: dict[str, Any] = {}
    with compiled(backbone) if shop.execution.compile else nullcontext() as taken:
        yield facts
    if taken:
        facts["compile"] = asdict(taken)
        shop.progress.say(f"{work}: compiled {taken.graphs} graphs in {duration(taken.seconds)}")
