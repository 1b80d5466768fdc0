"""Cells made in this process, and what their stages hold."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from scipy import sparse

from lion_sweep.cell import work
from lion_sweep.cell.cell import Cell
from lion_sweep.cell.tasks import Task
from lion_sweep.config.site import SiteName
from lion_sweep.data.ragged import Ragged
from lion_sweep.files import read_json
from lion_sweep.machine.execution import Execution
from lion_sweep.machine.progress import Progress
from lion_sweep.search.parts import Stored
from lion_sweep.stages.workshop import Workshop


def done(cell: Cell) -> Cell:
    """Make a cell in this process."""
    progress = Progress("cell", None)
    shop = Workshop(
        Path(cell.config.paths.root), progress, Execution.of(cell.config, SiteName.laptop)
    )
    Task.of(cell).freeze()
    cell.write_result(work.run(cell, shop))
    return cell


def contents(cell: Cell) -> dict[str, dict[str, Any]]:
    """What is in the folder of each stage, by its name."""
    root = Path(cell.config.paths.root) / "stages"
    return {stage.name: _content(root / stage.name) for stage in cell.stages.roles.values()}


def _content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (folder / "vectors").is_dir():
        whole = Stored(folder / "vectors").all()
        if isinstance(whole, Ragged):
            found |= {"vectors": whole.vectors_TP, "starts": whole.start_M}
        else:
            found["vectors"] = whole.toarray() if sparse.issparse(whole) else whole
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.parent.name == "vectors":  # parts are cut by time
            continue
        if path.suffix == ".npy":
            found[name] = np.load(path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                for key in arrays.files:
                    if arrays[key].dtype.kind in "fi":
                        found[f"{name} {key}"] = arrays[key]
        elif path.suffix == ".safetensors":
            found |= {f"{name} {key}": array for key, array in load_file(path).items()}
        elif path.name == "per_query.json":
            for measure, values in read_json(path).items():
                found[f"{name} {measure}"] = np.array(list(values.values()))
    found["loss"] = np.array(read_json(folder / "done.json")["facts"].get("loss", []))
    return found


def same(one: dict[str, Any], other: dict[str, Any], *, rounded: bool) -> bool:
    """Equal to the bit, or to the rounding of sums, by which hits may change their places."""
    if not rounded:
        close = {"rtol": 0.0, "atol": 0.0}
    else:
        close = {"rtol": 1e-3, "atol": 1e-4}
        one, other = by_document(one), by_document(other)
    return one.keys() == other.keys() and all(
        one[key].shape == other[key].shape and np.allclose(one[key], other[key], **close)
        for key in one
    )


def by_document(content: dict[str, Any]) -> dict[str, Any]:
    """With the hits of every query in the order of their documents' numbers."""
    documents = next((key for key in content if key.endswith("documents_QK")), None)
    if documents is None:
        return content
    scores, order_QK = documents.replace("documents", "scores"), np.argsort(content[documents])
    sorted_hits = {
        key: np.take_along_axis(content[key], order_QK, axis=1) for key in (documents, scores)
    }
    return content | sorted_hits
