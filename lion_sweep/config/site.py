"""The schema of the group `site`: where cells run, and what they ask for there."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING

from lion_sweep.config.section import Section, positive, require

EARLY, START = 60, 30  # seconds that SLURM may signal too early, that a job takes to begin

SiteName = StrEnum("SiteName", ["auto", "laptop", "gpu", "slurm"])
# Where something is done that costs time and saves memory; auto: where nothing else fits.
When = StrEnum("When", ["auto", "always", "never"])
# When the files of a finished stage are read whole to see that they are what they were: whenever a
# process reads the stage, or once after they changed.
Verify = StrEnum("Verify", ["always", "once", "never"])
# What a command given again does with cells that failed.
Retry = StrEnum("Retry", ["none", "failed"])


@dataclass
class Resources(Section):
    """What a job asks of a cluster; memory in GiB, of all its processes on a node together."""

    devices: int = MISSING
    gpus: int = MISSING
    cpus: int = MISSING
    memory: float = MISSING


@dataclass
class LadderResources(Section):
    """Per model; `default` is for models that are not named."""

    proxy: dict[str, Resources] = MISSING
    full: dict[str, Resources] = MISSING
    cut: dict[str, Resources] = field(default_factory=dict)


@dataclass
class Escalation(Section):
    """What the next attempt's resources are multiplied by after a failure that more would mend."""

    memory: float = MISSING
    time: float = MISSING

    def check(self, key: str) -> None:
        positive(self, key, "memory", "time")


@dataclass
class Slurm(Section):
    """What sbatch is told besides resources."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = MISSING
    signal: int = MISSING
    sbatch: dict[str, Any] = MISSING
    setup: list[str] = MISSING

    def check(self, key: str) -> None:
        positive(self, key, "nodes", "signal")


@dataclass
class Site(Section):
    name: SiteName = MISSING
    device: str = MISSING
    devices: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory: float | None = None
    peak_tflops: float | None = None
    memory_gib: float | None = None
    shard: When = MISSING
    compile: bool = MISSING
    efficiency: float = MISSING
    price: float | None = None
    time_limit: float | None = None
    login_mb: float = MISSING
    parallel: int | None = None
    encode_jobs: int = 1
    shard_tokens: int = 1 << 24
    attempts: int = MISSING
    retry: Retry = MISSING
    verify: Verify = Verify.once
    resources: LadderResources = MISSING
    stages: dict[str, dict[str, Any]] = MISSING
    escalate: Escalation = MISSING
    slurm: Slurm = MISSING

    def check(self, key: str) -> None:
        positive(self, key, "attempts", "encode_jobs", "efficiency", "devices", "cpus", "memory")
        positive(self, key, "parallel", "peak_tflops", "memory_gib", "price", "time_limit")
        if self.time_limit is not None:
            seconds, least = round(3600 * self.time_limit), self.slurm.signal + EARLY + START
            require(
                seconds > least,
                f"{key}.time_limit={self.time_limit:g} is {seconds} s, and SLURM may signal "
                f"{self.slurm.signal} + {EARLY} s before its end ({key}.slurm.signal, and a minute "
                f"early): a job that takes {START} s to start would get nowhere. Set "
                f"{key}.time_limit={math.ceil(least / 36 + 0.1) / 100:g} or more.",
            )
        require((self.login_mb) >= 0, f"{key}.login_mb={self.login_mb:g} must be 0 or more.")
        require((self.gpus or 0) >= 0, f"{key}.gpus={self.gpus} must be 0 or more.")
        require(
            self.efficiency <= 1,
            f"{key}.efficiency={self.efficiency} is a share of the peak: more than 0, at most 1.",
        )
