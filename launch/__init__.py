"""Running grids on machines that are shared: launchers, and a private cluster to try them on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a job, or the private cluster, need not wait for all that a grid imports
    from lion_sweep.config import Config
    from lion_sweep.config.site import SiteName
    from lion_sweep.grid import Launcher


def launcher_for(configs: list["Config"], site: "SiteName") -> "Launcher | None":
    """Who runs settled cells: SLURM, processes of this machine, or (None) the caller.

    Raises `SlurmError` for a partition that is not there.
    """
    if site.name == "slurm":
        from launch import queue, slurm

        own = configs[0].site
        stages = (told.get("partition") for told in own.stages.values())
        for partition in {own.slurm.partition, *filter(None, stages)}:
            queue.partition_of(partition)  # before anything is made for it
        return slurm.launch
    from lion_sweep.machine.site import gpus

    own = configs[0].site
    parallel = own.parallel or (len(gpus()) if site.name == "gpu" else 1)
    several = len(configs) > 1 or own.encode_jobs > 1 or own.parallel
    devices = [config.site.devices or 1 for config in configs]
    devices += [stage.get("devices", 1) for stage in own.stages.values()]
    if max(devices) > 1 or (parallel > 1 and several):
        from launch import local

        return local.launch
    return None
