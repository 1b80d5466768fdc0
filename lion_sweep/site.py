"""Where stages run, and whether this machine can run them."""

import os
import shutil
import subprocess
from pathlib import Path

import torch
from huggingface_hub import get_token
from transformers import AutoConfig

from lion_sweep.config import Config, LadderName, Precision
from lion_sweep.config_data import BM25Engine, Evaluation, SparseEngine
from lion_sweep.config_site import SiteName
from lion_sweep.errors import UserError
from lion_sweep.resources import resources
from lion_sweep.retrieval.anserini import lucene_available
from lion_sweep.retrieval.seismic import seismic_available

LEAST_FREE_BYTES = 1 << 30
PING_SECONDS = 30


def world_size() -> int:
    """How many ranks the environment says this process is one of."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def choose(asked: SiteName) -> tuple[SiteName, str]:
    """(site, why): `auto` takes slurm where a controller answers, gpu where CUDA does, or laptop.

    Inside a job the machine at hand is meant, not the cluster again.
    """
    cuda = torch.cuda.is_available()
    if asked is SiteName.gpu and not cuda:
        raise UserError("site=gpu, but torch finds no CUDA device: use site=laptop or site=auto.")
    if asked is SiteName.slurm:
        answer = controller()
        if not answer:
            raise UserError(
                "site=slurm, but no SLURM controller answers `scontrol ping`: run this on a login "
                "node of the cluster, or use site=laptop or site=gpu."
            )
        return asked, answer
    if asked is not SiteName.auto:
        return asked, "as asked"
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


def settle(config: Config, chosen: SiteName) -> None:
    """Give `site.devices` its number, in place, where it has none."""
    if config.site.devices is None:
        on_cluster = chosen is SiteName.slurm
        config.site.devices = resources(config).devices if on_cluster else world_size()


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


def check_engines(evaluation: Evaluation) -> None:
    """Refuse an engine whose package, or whose Java, is not here."""
    checks = {"lucene": lucene_available, "seismic": seismic_available}
    for key, own in (("sparse_engine", SparseEngine.exact), ("bm25_engine", BM25Engine.bm25s)):
        engine = getattr(evaluation, key).name
        available, why = checks[engine]() if engine in checks else (True, "")
        if not available:
            raise UserError(
                f"evaluation.{key}={engine}: {why}. Or use evaluation.{key}={own.name}."
            )


def check(config: Config, site: SiteName) -> None:
    """Refuse before any work what this machine cannot do."""
    ranks = world_size()
    if site is not SiteName.slurm and config.site.devices != ranks:
        raise UserError(
            f"site.devices={config.site.devices}, but this command was started on {ranks}: set "
            f"site.devices={ranks} to run here (python -m lion_sweep.plan plans for any number)."
        )
    check_engines(config.evaluation)
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
    try:
        AutoConfig.from_pretrained(source)
    except Exception as error:
        token = "a token is configured" if get_token() else "no Hugging Face token is configured"
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{source} cannot be loaded ({token}): {reason} Ask for access on the model's page and "
            "run `hf auth login`, or set model.backbone to a folder that holds the weights."
        ) from None
