"""Secrets of the environment are in nothing that a grid, its report or a tracker writes."""

import json
from pathlib import Path

from commands import run
from support import Shell

PLANTED = {
    "WANDB_API_KEY": "a1b2c3d4" * 5,
    "HF_TOKEN": "hf_PlantedPlantedPlantedPlanted",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+0123456789abcdefghij",
    "MY_DATABASE_PASSWORD": "planted-password-9876543210",
}


def test_planted_secrets_are_found_nowhere(laptop: Shell, tmp_path: Path) -> None:
    root, home = tmp_path / "outputs", tmp_path / "home"
    home.mkdir()
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(home)}
    shell = Shell(laptop.environment | PLANTED | quiet, laptop.collection)
    words = ["model=1b", "paradigm=sparse", "loss=cl", "budget.flops=1e10", f"paths.root={root}"]
    code, printed = shell.run(*words, "tracking=wandb", "alarms=none")
    assert code == 0, printed
    failing = ["model=1b", "paradigm=dense", "loss=cl", "recipe.learning_rate=1e30"]
    code, told = shell.run(*failing, "budget.flops=1e10", f"paths.root={root}", "tracking=wandb")
    assert code != 0
    printed += told
    for module in ("report", "status", "verify", "dashboard"):
        more = ["me/planted", "--dry-run"] if module == "dashboard" else []
        done = run(f"lion_sweep.{module}", *more, f"--root={root}", env=shell.environment)
        printed += done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files) and len(files) > 60
    for name, secret in PLANTED.items():
        assert secret not in printed, name
        spelled = (secret.encode(), json.dumps(secret).strip('"').encode())
        found = [path for path in files if any(one in path.read_bytes() for one in spelled)]
        assert found == [], name
