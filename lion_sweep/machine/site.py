"""Where stages run, and whether this machine can run them."""

import os
import shutil
import subprocess
from pathlib import Path

import torch

from lion_sweep.config import Config, Precision, changed
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError

LEAST_FREE_BYTES = 1 << 30
PING_SECONDS = 30


def world_size() -> int:
    """How many ranks the environment says this process is one of."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def gpus() -> list[str]:
    """The GPUs that processes may be given here, by their names in CUDA_VISIBLE_DEVICES."""
    told, count = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    if told is None:
        return [str(number) for number in range(count)]
    names = [name.strip() for name in told.split(",")]
    # Of MIG instances a process sees the first alone; the others are for other processes.
    return names if count and told.startswith("MIG-") else names[:count]


def choose(asked: SiteName) -> tuple[SiteName, str]:
    """(site, why): `auto` is slurm where a controller answers, gpu where CUDA does, or laptop."""
    cuda = torch.cuda.is_available()
    if asked is SiteName.gpu and not cuda:
        raise UserError("site=gpu, but torch finds no CUDA device: use site=laptop or site=auto.")
    if asked is SiteName.slurm:
        if not (answer := controller()):
            raise UserError(
                "site=slurm, but no SLURM controller answers `scontrol ping`: run this on a login "
                "node of the cluster, or use site=laptop or site=gpu."
            )
        return asked, answer
    if asked is not SiteName.auto:
        return asked, "as asked"
    # Inside a job the machine at hand is meant, not the cluster again.
    if "SLURM_JOB_ID" not in os.environ and (answer := controller()):
        return SiteName.slurm, answer
    return (SiteName.gpu, torch.cuda.get_device_name()) if cuda else (SiteName.laptop, "no CUDA")


def controller() -> str:
    """What SLURM's controller answers; empty where none does, whatever commands lie around.

    Raises `UserError` where it takes too long: there is a cluster, and this may be its login node,
    where nothing should be trained by mistake.
    """
    settings = os.environ.get("SLURM_CONF")
    if not shutil.which("sbatch") or (settings and not Path(settings).exists()):
        return ""  # scontrol would wait a minute for its file to appear
    try:
        asked = subprocess.run(
            ["scontrol", "ping"], capture_output=True, text=True, timeout=PING_SECONDS
        )
    except OSError:
        return ""
    except subprocess.TimeoutExpired:
        raise UserError(
            f"SLURM's controller has not answered `scontrol ping` for {PING_SECONDS} s: give the "
            "command again later, or say site=laptop or site=gpu to run on this machine."
        ) from None
    up = [line.strip() for line in asked.stdout.splitlines() if line.strip().endswith("is UP")]
    return up[0] if up else ""


def settle(config: Config, chosen: SiteName, planned: SiteName | None = None) -> Config:
    """A frozen copy in which nothing is `auto` or left open that could change a number.

    `planned` is where the cell will run, where that is not `chosen`.
    """
    devices = config.site.devices
    if devices is None:
        devices = _devices(config, chosen, planned)
    precision = _precision(config, planned or chosen)
    return changed(config, {"site.devices": devices, "recipe.precision": precision})


def _devices(config: Config, chosen: SiteName, planned: SiteName | None) -> int:
    """As `site.resources` says, or the largest part of it for which GPUs are there."""
    wanted = config.resources().devices
    if chosen is SiteName.slurm:
        return wanted
    here = SiteName.gpu in (chosen, planned) and config.site.device == "auto"
    most = max(1, torch.cuda.device_count()) if here else 1
    return max(n for n in range(1, wanted + 1) if wanted % n == 0 and n <= most)


def _precision(config: Config, site: SiteName) -> Precision:
    """The number format: auto is bf16 where the device computes in it.

    A GPU that is only planned for does (devices.py knows no other), and so do those of a cluster;
    a cluster's processors are taken to be as this machine's.
    """
    asked = config.recipe.precision
    if asked is not Precision.auto:
        return asked
    if site is SiteName.slurm:
        low = bool(config.resources().gpus) or torch.cpu._is_avx512_bf16_supported()
    elif site is SiteName.gpu and torch.cuda.is_available():
        low = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        low = site is SiteName.gpu or torch.cpu._is_avx512_bf16_supported()
    return Precision.bf16 if low else Precision.fp32


def check_output(root: Path) -> None:
    """The output folder must be writable and have room."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"paths.root={root} cannot be written ({error.strerror}): choose another folder with "
            "paths.root=FOLDER."
        ) from None
    free = shutil.disk_usage(root).free
    if free < LEAST_FREE_BYTES:
        raise UserError(
            f"paths.root={root} has {free / 2**20:.0f} MiB left; at least "
            f"{LEAST_FREE_BYTES >> 20} MiB are needed: free some, or choose another disk."
        )
