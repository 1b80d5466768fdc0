"""The recipes: what is released or published, switch by switch, and what contradicts itself."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lion_sweep.config import Config, read_config
from lion_sweep.config.composing import write_config
from lion_sweep.config.recipe import Schedule
from lion_sweep.errors import UserError
from lion_sweep.stages.validation import validate

Compose = Callable[..., Config]

# Of the released scripts: batch, hard negatives, queries compared together (None: there are no
# candidates beside a query's own), queries of one mean in FLOPS, micro-batches of a step, epochs.
RELEASED: dict[tuple[str, str], tuple[int, int, int | None, int, int, int]] = {
    ("1b", "cl"): (112, 16, 112, 112, 1, 7),
    ("1b", "kd"): (1024, 1, None, 256, 1, 56),
    ("1b", "clkd"): (112, 16, 112, 112, 1, 7),
    ("3b", "cl"): (128, 16, 64, 64, 2, 3),
    ("3b", "kd"): (512, 1, None, 128, 1, 24),
    ("3b", "clkd"): (128, 16, 64, 64, 2, 3),
    ("8b", "cl"): (128, 16, 32, 32, 4, 1),
    ("8b", "kd"): (512, 1, None, 64, 2, 8),
    ("8b", "clkd"): (128, 16, 32, 32, 4, 1),
}


@pytest.mark.parametrize(("model", "loss"), RELEASED)
def test_lion_is_the_released_recipe(compose_cell: Compose, model: str, loss: str) -> None:
    batch, negatives, together, pool, micro_batches, epochs = RELEASED[model, loss]
    words = ["recipe=lion", "ladder=full", f"model={model}", f"loss={loss}", "budget=epochs"]
    config = compose_cell(*words)
    validate(config)
    recipe, told = config.recipe, config.loss
    assert recipe.name == "lion"  # whatever recipe the ladder would choose
    assert (told.batch_size, told.negatives) == (batch, negatives)
    assert config.budget.epochs == epochs
    if together is not None:
        found = told.terms["contrastive"]["candidates"] or batch * (1 + negatives)
        assert found == together * (1 + negatives)
        assert told.terms["contrastive"]["devices"] == 4
    weights = {name: term["weight"] for name, term in told.active.items()}
    assert (
        weights
        == {
            "cl": {"contrastive": 1.0},
            "kd": {"margin_mse": 1.0},
            "clkd": {"contrastive": 0.5, "listwise_kl": 0.5},
        }[loss]
    )
    flops = config.paradigm.regulariser
    assert flops is not None
    assert (flops["query_weight"], flops["passage_weight"]) == (0.05, 0.04)
    assert (flops["pool"] or batch) == pool and flops["micro_batches"] == micro_batches
    assert (flops["apart"], flops["devices"]) == ((True, 1) if loss == "kd" else (False, 4))
    assert flops["ramp"] == pytest.approx(1 / 3)
    lengths = recipe.lengths.query, recipe.lengths.passage, recipe.evaluation_passage_length
    assert lengths == (64, 128, 192)
    assert (recipe.learning_rate, recipe.warmup, recipe.clip) == (1e-4, 0.04, 1.0)


def test_dense_cells_of_lion_differ_in_their_paradigm_alone(compose_cell: Compose) -> None:
    words = ["recipe=lion", "model=3b", "loss=clkd"]
    dense, sparse = compose_cell(*words, "paradigm=dense"), compose_cell(*words)
    assert (dense.paradigm.temperature, dense.paradigm.regulariser) == (0.01, None)
    assert (dense.loss, dense.recipe) == (sparse.loss, sparse.recipe)


@pytest.mark.parametrize(("model", "loss"), [("1b", "cl"), ("3b", "kd"), ("8b", "clkd")])
def test_controlled_has_one_form_one_batch_and_true_gradients(
    compose_cell: Compose, model: str, loss: str
) -> None:
    config = compose_cell("ladder=full", f"model={model}", f"loss={loss}")
    validate(config)
    told, flops = config.loss, config.paradigm.regulariser
    assert (config.recipe.name, told.batch_size, told.negatives) == ("controlled", 128, 16)
    forms = {"cl": ["contrastive"], "kd": ["listwise_kl"], "clkd": ["contrastive", "listwise_kl"]}
    assert list(told.active) == forms[loss]
    if loss != "kd":
        term = told.terms["contrastive"]
        assert (term["candidates"], term["devices"]) == (None, 1)
    assert flops is not None
    assert [flops[key] for key in ("pool", "apart", "micro_batches", "devices")] == [
        None, False, 1, 1
    ]  # fmt: skip
    lion = compose_cell("recipe=lion", f"model={model}", f"loss={loss}").recipe
    for key in ("lengths", "lora", "adapt", "learning_rate", "warmup", "dense", "flops"):
        assert getattr(config.recipe, key) == getattr(lion, key)


def test_what_splade_llama_and_laconic_publish(compose_cell: Compose) -> None:
    splare = compose_cell("recipe=splare", "loss=kd", "budget=epochs", "budget.epochs=1")
    validate(splare)
    (term,) = splare.loss.active.values()
    assert splare.loss.active.keys() == {"listwise_kl"} and term["weight"] == 1
    assert (term["student_temperature"], term["teacher_temperature"]) == (10, 10)
    assert (splare.loss.batch_size, splare.loss.negatives) == (128, 8)
    flops, lora = splare.paradigm.regulariser, splare.recipe.lora
    assert flops and lora
    assert (flops["query_weight"], flops["passage_weight"], lora.rank) == (1e-4, 1e-4, 64)
    assert splare.recipe.learning_rate == 5e-5
    laconic = compose_cell("recipe=laconic", "loss=cl")
    validate(laconic)
    recipe, flops = laconic.recipe, laconic.paradigm.regulariser
    assert flops and recipe.lora
    assert (laconic.loss.negatives, recipe.lora.rank, recipe.lora.alpha) == (15, 16, 32)
    assert (flops["query_weight"], flops["passage_weight"]) == (1e-3, 1e-3)
    assert (recipe.lengths.query, recipe.lengths.passage) == (192, 192)
    assert (recipe.learning_rate, recipe.schedule) == (1e-4, Schedule.cosine)


def test_a_value_by_size_is_each_cells_own_and_frozen(
    compose_cell: Compose, tmp_path: Path
) -> None:
    eight = compose_cell("recipe=lion", "model=8b")
    assert compose_cell("recipe=lion", "model=1b").loss.batch_size == 112
    assert eight.recipe.by["batch_size.cl"] == "model"
    assert eight.recipe.by["sparse.flops_pool"] == "loss and model"
    said = compose_cell("recipe=lion", "model=8b", "recipe.batch_size.cl=64")
    assert said.loss.batch_size == 64 and "batch_size.cl" not in said.recipe.by
    write_config(eight, tmp_path, {})
    assert read_config(tmp_path) == eight
    assert "${" not in (tmp_path / "config.yaml").read_text()


def test_a_size_that_a_value_says_nothing_of_is_refused(compose_cell: Compose) -> None:
    word = "recipe.batch_size.cl='${by:model.name,{3b: 8, 8b: 4}}'"
    assert compose_cell(word, "model=8b").loss.batch_size == 4
    with pytest.raises(UserError) as refused:
        compose_cell(word)
    assert str(refused.value) == (
        "recipe.batch_size.cl goes by model.name, and says nothing of 1b: say "
        "recipe.batch_size.cl=VALUE, or give it 1b or default where it has 3b, 8b."
    )


def test_a_term_without_a_weight_is_no_term(compose_cell: Compose) -> None:
    words = ["loss=clkd", "recipe.weights.clkd.listwise_kl=0"]
    alone = compose_cell(*words)
    assert list(alone.loss.active) == ["contrastive"]
    assert not alone.loss.needs_teacher
    validate(compose_cell(*words, "loss.negatives=0"))  # which the KL could not do without
    both = compose_cell("loss=kd", "recipe.weights.kd.listwise_kl=0.2")
    assert list(both.loss.active) == ["margin_mse", "listwise_kl"]


def test_a_margin_of_false_negatives_asks_for_a_teacher(compose_cell: Compose) -> None:
    margin = "loss.terms.contrastive.false_negative_margin=0.5"
    assert not compose_cell("loss=cl").loss.needs_teacher
    assert compose_cell("loss=cl", margin).loss.needs_teacher
    validate(compose_cell("loss=cl", margin, "loss.negatives=2"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            ["loss=kd", "recipe.weights.kd.margin_mse=0"],
            "loss.terms: every weight is 0 (margin_mse, listwise_kl)",
        ),
        (
            ["loss=cl", "loss.terms.contrastive.false_negative_margin=1"],
            "loss term contrastive compares a positive with negatives: set loss.negatives=1",
        ),
        (["recipe=lion", "loss.batch_size=96", "model=8b", "recipe.candidates=1000"],
         "candidates=1000 does not cut the step's 1632 passages"),
        (
            ["recipe.sparse.flops_pool=7"],
            "paradigm.regulariser.pool=7 (recipe.sparse.flops_pool) does not cut the step's 16",
        ),
        (["recipe.sparse.flops_apart=true"], "paradigm.regulariser.apart=true"),
        (["recipe.sparse.flops_pool=0"], "recipe.sparse.flops_pool=0 must be greater than 0"),
        (["recipe.gathered_devices=0"], "recipe.gathered_devices=0 must be greater than 0"),
        (
            ["recipe.listwise.student_temperature=0"],
            "recipe.listwise.student_temperature=0.0 must be greater than 0",
        ),
        (
            ["loss=clkd", "loss.terms.listwise_kl.teacher_temperature=-1"],
            "loss.terms.listwise_kl: teacher_temperature=-1 must be greater than 0",
        ),
        (["loss=cl", "~loss.terms.contrastive.weight"], "loss.terms.contrastive: "),
    ],
)  # fmt: skip
def test_switches_that_contradict_each_other_are_named(
    compose_cell: Compose, words: list[str], named: str
) -> None:
    config = compose_cell(*words)
    with pytest.raises(UserError, match=re.escape(named)):
        validate(config)
