"""Frozen layers spread over the ranks, for decoders whose weights do not fit one device.

Under LoRA the base is frozen, so FSDP2 has nothing to do but gather a layer when a forward or
backward pass comes to it; no gradient of it is ever reduced. Adapters are left out: they stay whole
on every rank, in fp32, and their optimiser, averaging and checkpoints know nothing of sharding. So
do embeddings, final norm and head, which losses read outside of any forward pass of the decoder.

`fully_shard` is called directly. accelerate's plugin is ignored on the CPU, so that no test without
GPUs could run it; it has to be there before the plan, which counts the ranks, can decide; it wants
model and optimiser prepared together; and with bf16 it casts what the decoder returns.
"""

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from lion_sweep.models.backbone import Backbone


def shard(backbone: Backbone, ranks: DeviceMesh) -> None:
    """Keep this rank's share of every layer, on its device, in place; the rest stays where it is.

    `ranks` has one dimension. From then on every rank must run as many forward passes, and backward
    ones, as any other. Raises `ValueError` where a layer has nothing frozen.
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
