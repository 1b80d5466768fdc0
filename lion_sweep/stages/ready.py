"""Whether this machine has what a cell's stages need: packages, Java, a decoder that can be had."""

from pathlib import Path

import torch
from huggingface_hub import get_token

from lion_sweep.config import Config, LadderName
from lion_sweep.config.site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.machine.site import world_size
from lion_sweep.search.base import WORDS


def check_engines(config: Config) -> None:
    """Refuse an engine whose package, or whose Java, is not here."""
    paradigm = config.paradigm
    for kind in (paradigm.made_by.kind, WORDS):
        if missing := config.engine.check_kind(kind, paradigm.name).missing():
            raise UserError(f"engine={config.engine.name}: {missing}. Or use engine=exact.")


def check(config: Config, site: SiteName) -> None:
    """Refuse before any work what this machine cannot do."""
    ranks = world_size()
    if site is not SiteName.slurm and config.site.devices != ranks:
        raise UserError(
            f"site.devices={config.site.devices}, but this command was started on {ranks}: set "
            f"site.devices={ranks} to run here (python -m lion_sweep.plan plans for any number)."
        )
    check_engines(config)
    if config.site.compile and site is not SiteName.slurm:
        from lion_sweep.models.compiled import check_compiler

        check_compiler(torch.device("cuda" if site is SiteName.gpu else "cpu"))
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
    if backbone is None and site is SiteName.laptop:
        raise UserError(
            f"ladder=full trains {source}, which needs a GPU, and torch finds none here: "
            "use ladder=proxy, or run on a machine with CUDA."
        )
    from transformers import AutoConfig  # a second, which stand-ins need not wait

    try:
        AutoConfig.from_pretrained(source)
    except Exception as error:
        token = "a token is configured" if get_token() else "no Hugging Face token is configured"
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{source} cannot be loaded ({token}): {reason} Ask for access on the model's page and "
            "run `hf auth login`, or set model.backbone to a folder that holds the weights."
        ) from None
