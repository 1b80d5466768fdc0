"""Running grids on machines that are shared: launchers, and a private cluster to try them on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a job, or the private cluster, need not wait for all that a grid imports
    from lion_sweep.config import Config
    from lion_sweep.config.site import SiteName
    from lion_sweep.grid import Launcher


def launcher_for(config: "Config", site: "SiteName") -> "Launcher | None":
    """Who runs the cells of a command: SLURM, processes of this machine, or (None) the caller.

    Raises `SlurmError` for a partition that is not there.
    """
    if site.name == "slurm":
        from launch import queue, slurm

        stages = (told.get("partition") for told in config.site.stages.values())
        for partition in {config.site.slurm.partition, *filter(None, stages)}:
            queue.partition_of(partition)  # before anything is made for it
        return slurm.launch
    if (config.site.parallel or 1) > 1:
        from launch import local

        return local.launch
    return None
