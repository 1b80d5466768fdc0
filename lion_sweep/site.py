"""Where stages run, and whether this machine can run them."""

import os
import shutil
from pathlib import Path

import torch
from huggingface_hub import get_token
from transformers import AutoConfig

from lion_sweep.config import Config, LadderName, Precision, SiteName, SparseEngine
from lion_sweep.errors import UserError
from lion_sweep.retrieval.lucene import lucene_available

LEAST_FREE_BYTES = 1 << 30


def choose(asked: SiteName) -> tuple[SiteName, str]:
    """(site, why): `auto` takes gpu where CUDA answers, else laptop."""
    cuda = torch.cuda.is_available()
    if asked is SiteName.gpu and not cuda:
        raise UserError("site=gpu, but torch finds no CUDA device: use site=laptop or site=auto.")
    if asked is not SiteName.auto:
        return asked, "as asked"
    return (SiteName.gpu, torch.cuda.get_device_name()) if cuda else (SiteName.laptop, "no CUDA")


def precision(asked: Precision, site: SiteName, *, planned: bool = False) -> str:
    """accelerate's name of the number format; auto is bf16 where the device computes in it.

    A GPU that is only planned for does: every one that devices.py knows.
    """
    if asked is not Precision.auto:
        return "bf16" if asked is Precision.bf16 else "no"
    if site is SiteName.gpu and planned and not torch.cuda.is_available():
        return "bf16"
    if site is SiteName.gpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "no"


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


def check(config: Config, site: SiteName) -> None:
    """Refuse before any work what this machine cannot do."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if config.site.devices != ranks:
        raise UserError(
            f"site.devices={config.site.devices}, but this command was started on {ranks}: set "
            f"site.devices={ranks} to run here (python -m lion_sweep.plan plans for any number)."
        )
    if config.evaluation.sparse_engine is SparseEngine.lucene:
        available, why = lucene_available()
        if not available:
            raise UserError(
                f"evaluation.sparse_engine=lucene: {why}. Or use evaluation.sparse_engine=exact."
            )
    backbone = config.model.backbone
    if backbone is None and config.ladder is LadderName.proxy:
        return
    source = backbone or config.model.full
    assert source is not None
    if source.startswith("package:"):
        return
    if Path(source).is_dir():
        if not (Path(source) / "config.json").is_file():
            raise UserError(f"model.backbone={source} is a folder without config.json.")
        return
    if backbone is None and site is not SiteName.gpu:
        raise UserError(
            f"ladder=full trains {source}, which needs a GPU, and torch finds none here: "
            "use ladder=proxy, or run on a machine with CUDA."
        )
    try:
        AutoConfig.from_pretrained(source)
    except Exception as error:
        token = "a token is configured" if get_token() else "no Hugging Face token is configured"
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{source} cannot be loaded ({token}): {reason} Ask for access on the model's page and "
            "run `hf auth login`, or set model.backbone to a folder that holds the weights."
        ) from None
