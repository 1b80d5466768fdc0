"""What a W&B run holds, read back from the offline file by W&B's own reader."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from types import SimpleNamespace as N
from lion_sweep.config import TrackerKind
from lion_sweep.machine.tracking import tracker
config = N(tracking=N(kind=TrackerKind.wandb, project="p", group=None), data=N(name="d"),
           ladder=N(name="proxy"), paths=N(root=sys.argv[1]))
with tracker(config, "1b-sparse-cl-abc", {"model": "1b", "loss": "cl"}) as track:
    for step in range(1, 4):
        track.log({"loss": 1.0 / step}, step)
    track.summary({"d/nDCG@10": 0.5})
"""


def test_offline_run_holds_axes_losses_and_scores(tmp_path: Path) -> None:
    quiet = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    quiet |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, env=quiet, timeout=120
    )
    (run,) = tmp_path.glob("wandb/wandb/offline-run-*-1b-sparse-cl-abc/*.wandb")
    wandb = Path(sys.executable).parent / "wandb"
    done = subprocess.run(
        [str(wandb), "leet", "inspect", str(run), "--summary", "--json"],
        capture_output=True,
        text=True,
        env=quiet,
        timeout=120,
    )
    read = json.loads(done.stdout)
    assert read["config"] == {"model": "1b", "loss": "cl"}
    summary = json.dumps(read)
    assert '"d/nDCG@10": 0.5' in summary and '"train/step": 3' in summary
