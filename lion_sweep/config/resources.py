"""What a cell asks of a cluster."""

from lion_sweep.config import Config
from lion_sweep.config.site import Resources
from lion_sweep.errors import UserError


def resources(config: Config) -> Resources:
    """What a job of the cell asks of a cluster, by its ladder and model."""
    of_ladder: dict[str, Resources] = getattr(config.site.resources, config.ladder.name)
    found = of_ladder.get(config.model.name) or of_ladder.get("default")
    if found is None:
        raise UserError(
            f"site.resources.{config.ladder.name} has neither {config.model.name} nor default: "
            f"add {{devices: 1, gpus: 1, cpus: 8, memory: 64}} for one of them."
        )
    site = config.site
    devices = site.devices or found.devices
    share = devices / found.devices  # more devices bring their GPUs and cores along
    return Resources(
        devices,
        round(found.gpus * share) if site.gpus is None else site.gpus,
        max(1, round(found.cpus * share)) if site.cpus is None else site.cpus,
        found.memory if site.memory is None else site.memory,
    )
