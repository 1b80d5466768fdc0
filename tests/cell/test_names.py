"""What tells cells apart: just the keys that say something of their own, and names that differ."""

import pytest
from hydra import compose, initialize_config_dir

from lion_sweep import config
from lion_sweep.cell.names import Settings, along, differing, full_names, label, settings, short
from lion_sweep.config import Config

LENGTH = "teacher.scorers.encoder.length=9"
LION, EIGHT = ["recipe=lion"], ["model=8b"]


def composed(*words: str) -> Config:
    """A cell's configuration."""
    config.register()
    folder = str(config.config_folder())
    with initialize_config_dir(config_dir=folder, version_base="1.3"):
        return config.resolve(compose("config", overrides=["site=laptop", *words]))


def told(*words: str) -> Settings:
    return settings(composed(*words))


@pytest.mark.parametrize(
    ("cells", "keys"),
    [
        ([[], ["paradigm=dense"], ["model=8b", "loss=kd"]], []),  # the axes are no news
        ([[], ["site.cpus=3", "paths.root=x", "recipe.checkpoint_every=9", "plan.format=csv"]], []),
        ([["recipe.lora.rank=4"], ["recipe.lora.rank=16"]], ["recipe.lora.rank"]),
        ([["seed=0"], ["seed=1"], ["seed=2"]], ["seed"]),
        ([["ladder=full"], ["ladder=full", "model.full=some/other"]], ["model.full"]),
        ([["budget.flops=1e11"], ["budget.flops=1e12"]], ["budget.flops"]),
        # What an option takes from the recipe says no more than the recipe.
        ([["recipe.batch_size.cl=8"], ["recipe.batch_size.cl=16"]], ["recipe.batch_size.cl"]),
        (
            [["recipe.batch_size.cl=8"], ["recipe.batch_size.cl=16"], ["loss=kd"]],
            ["recipe.batch_size.cl"],
        ),
        # A recipe that differs by its name brings along all that options take from it.
        ([[*LION], ["recipe=controlled"]], ["recipe.name"]),
        ([[*LION, "loss=kd"], ["recipe=controlled", "loss=kd"], ["loss=kd"]], ["recipe.name"]),
        # What a recipe has by size and loss goes with them, unless somebody says it.
        ([[*LION, *EIGHT], [*LION], [*LION, "loss=kd"], [*LION, *EIGHT, "loss=kd"]], []),
        ([[*LION, *EIGHT], [*LION, "recipe.candidates=272"]], ["recipe.candidates"]),
        (
            [[*LION, *EIGHT, "recipe.batch_size.cl=64"], [*LION, "recipe.batch_size.cl=32"]],
            ["recipe.batch_size.cl"],
        ),
        # A switch is one key, whatever it changes in losses and paradigms.
        (
            [[*LION, *EIGHT], [*LION, *EIGHT, "recipe.gathered_devices=1"]],
            ["recipe.gathered_devices"],
        ),
        (
            [
                ["loss=kd"],
                ["loss=kd", "recipe.weights.kd.margin_mse=0", "recipe.weights.kd.listwise_kl=1"],
            ],
            ["recipe.weights.kd.listwise_kl", "recipe.weights.kd.margin_mse"],
        ),
        # Said to the option itself, it says it.
        ([["loss.batch_size=8"], ["loss.batch_size=16"]], ["loss.batch_size"]),
        # Options that differ by name bring their other keys along.
        ([["teacher=bm25"], ["teacher=minilm"]], ["teacher.name"]),
        (
            [["teacher=bm25"], ["teacher=minilm"], ["teacher=minilm", LENGTH]],
            ["teacher.name", "teacher.scorers.encoder.length"],
        ),
        (
            [[f"teacher={name}"] for name in ("given", "bm25", "minilm", "cross-encoder")],
            ["teacher.name"],
        ),
        (
            [["teacher=cross-encoder", f"teacher.scorers.own.weight={one}"] for one in (0, 0.1)],
            ["teacher.scorers.own.weight"],
        ),
        # Limits change no number.
        ([["teacher.audit.flat=0.9"], ["teacher.audit.flat=0.8"]], []),
        # Two keys that always change together are both told: one of them did it.
        (
            [
                ["recipe.warmup=0.1", "recipe.learning_rate=1e-4"],
                ["recipe.warmup=0.2", "recipe.learning_rate=1e-3"],
            ],
            ["recipe.learning_rate", "recipe.warmup"],
        ),
        (
            [["recipe.warmup=0.1", "budget.flops=1e11"], ["recipe.warmup=0.2"]],
            ["budget.flops", "recipe.warmup"],
        ),
    ],
)
def test_keys_that_tell_cells_apart(cells: list[list[str]], keys: list[str]) -> None:
    assert differing([told(*words) for words in cells]) == keys


def test_what_goes_along_with_the_axes_is_told() -> None:
    cells = [told("recipe=lion", f"model={model}", "loss=clkd") for model in ("1b", "3b", "8b")]
    found = along(cells)
    assert found["recipe.batch_size.clkd"] == found["recipe.candidates"] == "model"
    assert found["recipe.sparse.flops_micro_batches"] == "loss and model"
    assert "recipe.gathered_devices" not in found
    assert along(cells[:1]) == {} == along([told(), told("model=3b")])


def test_recipes_of_which_one_goes_by_an_axis() -> None:
    """The key that says so is no value of its own, and is not looked for among those that are."""
    cells = [told("recipe=cut", f"model={model}") for model in ("1b", "8b")]
    assert set(along(cells)) == {"recipe.adapt.steps", "recipe.sparse.logit_scale"}
    mixed = [*cells, told("recipe=cut", "model=3b", "recipe.sparse.logit_scale=1")]
    assert set(along(mixed)) == {"recipe.adapt.steps"}
    assert differing(mixed) == ["recipe.sparse.logit_scale"]


def test_a_key_that_an_earlier_version_had_not_is_at_its_default() -> None:
    new = told()
    old = {key: value for key, value in new.items() if key != "negatives.ranked_by"}
    assert new["negatives.ranked_by"] == "own"
    assert differing([old, new]) == []
    assert differing([old, told("negatives.ranked_by=teacher")]) == ["negatives.ranked_by"]
    # A key of an option that a cell has not.
    target = told("paradigm.target_l0={queries: 3, passages: 9}")
    assert differing([new, target]) == ["paradigm.target_l0.passages", "paradigm.target_l0.queries"]


def test_names_differ_by_what_the_cells_differ_in() -> None:
    words = [["seed=1"], ["seed=2"], ["seed=2", "model=3b"], ["seed=2", "data.name=mine"]]
    cells = [composed(*one) for one in words]
    named = [(label(cell), f"id-{number:012}", settings(cell)) for number, cell in enumerate(cells)]
    assert full_names(named) == [
        "1b-sparse-cl data=pydoc seed=1",
        "1b-sparse-cl data=pydoc seed=2",
        "3b-sparse-cl",
        "1b-sparse-cl data=mine seed=2",
    ]


def test_cells_of_one_configuration_are_told_apart_by_their_ids() -> None:
    one = told()
    ids = ["1b-sparse-cl-0123456789ab", "1b-sparse-cl-ba9876543210"]
    found = full_names([("1b-sparse-cl", identity, one) for identity in ids])
    assert found == ["1b-sparse-cl (012345)", "1b-sparse-cl (ba9876)"]


def test_short_keys_are_not_ambiguous() -> None:
    keys = ["recipe.lora.rank", "recipe.sparse.temperature", "paradigm.temperature", "seed"]
    assert list(short(keys).values()) == [
        "rank", "sparse.temperature", "paradigm.temperature", "seed"
    ]  # fmt: skip
