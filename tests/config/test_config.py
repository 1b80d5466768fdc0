"""Every shipped configuration holds; what is impossible is refused by name."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.errors import HydraException

from lion_sweep import config as configuration
from lion_sweep.config import (
    BudgetKind,
    Config,
    LadderName,
    config_folder,
)
from lion_sweep.config.composing import compose_cells
from lion_sweep.errors import UserError
from lion_sweep.stages.validation import validate

Compose = Callable[..., Config]
FILES = sorted(config_folder().rglob("*.yaml"))
READ_BY_REPORTS = ("reference", "findings", "chapter")  # folders of no options
OPTIONS = [
    (path.parent.name, path.stem)
    for path in FILES
    if path.parent != config_folder() and path.parent.name not in READ_BY_REPORTS
]
# What an option asks of whoever chooses it.
EXTRA = {
    **{
        option: ["data.path=folder"]
        for option in (("data", "beir"), ("data", "msmarco"), ("evaluation", "paper"))
    },
    **{("paradigm", name): ["recipe.adapt.steps=0"] for name in ("mistral-splade", "repllama")},
    ("teacher", "bi-encoder"): ["teacher.scorers.encoder.model=folder"],
    ("teacher", "cell"): ["teacher.scorers.cell.cell=8b-dense-clkd"],
}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(compose_cell: Compose, group: str, option: str) -> None:
    config = compose_cell(f"{group}={option}", *EXTRA.get((group, option), []))
    validate(config)
    if group == "ladder":
        assert config.ladder.value == option
    elif group not in {"evaluation", "budget", "tracking", "grid"}:
        name = getattr(config, group).name
        assert getattr(name, "value", name) == option


@pytest.mark.parametrize(
    ("model", "loss", "epochs"),
    [("1b", "cl", 7), ("3b", "clkd", 3), ("8b", "cl", 1), ("1b", "kd", 56), ("smollm2", "cl", 7)],
)
def test_epochs_are_the_study_s(
    compose_cell: Compose, model: str, loss: str, epochs: float
) -> None:
    assert compose_cell("budget=epochs", f"model={model}", f"loss={loss}").budget.epochs == epochs


def test_another_loss_has_the_epochs_that_somebody_gives_it(compose_cell: Compose) -> None:
    mine = ["budget=epochs", "loss.name=mine"]
    with pytest.raises(UserError, match=r"epochs\.mine' not found: say budget.epochs=VALUE"):
        compose_cell(*mine)
    assert compose_cell(*mine, "+model.epochs.mine=4").budget.epochs == 4
    assert compose_cell(*mine, "budget.epochs=2").budget.epochs == 2


def test_every_group_is_in_the_schema() -> None:
    grids = {"grid"}  # which say what cells there are, nothing of any
    assert {group for group, _ in OPTIONS} - grids <= {entry.name for entry in fields(Config)}


@pytest.mark.parametrize("ladder", ["proxy", "full", "cut"])
@pytest.mark.parametrize("paradigm", ["sparse", "dense"])
@pytest.mark.parametrize("loss", ["cl", "kd", "clkd"])
def test_the_grid_is_valid(compose_cell: Compose, ladder: str, paradigm: str, loss: str) -> None:
    config = compose_cell(f"ladder={ladder}", f"paradigm={paradigm}", f"loss={loss}")
    validate(config)
    assert config.loss.needs_teacher == (loss != "cl")


@pytest.mark.parametrize("model", ["1b", "3b", "8b"])
@pytest.mark.parametrize("ladder", ["full", "cut"])
def test_every_size_is_on_the_full_ladder(compose_cell: Compose, model: str, ladder: str) -> None:
    validate(compose_cell(f"model={model}", f"ladder={ladder}"))


def test_a_ladder_chooses_its_recipe(compose_cell: Compose) -> None:
    assert compose_cell("ladder=full").recipe.name == "controlled"
    assert compose_cell("ladder=full", "recipe=lion").recipe.name == "lion"
    assert compose_cell("ladder=proxy").recipe.name == "proxy"
    assert compose_cell("ladder=cut").recipe.name == "cut"
    assert compose_cell("ladder=full", "recipe=proxy").recipe.name == "proxy"
    assert compose_cell("ladder=full").ladder is LadderName.full


def test_interpolations_follow_the_recipe(compose_cell: Compose) -> None:
    config = compose_cell(
        "recipe.negatives.cl=3",
        "recipe.flops=5e9",
        "recipe.sparse.threshold=1.5",
        "recipe.sparse.flops_query=0.25",
        "recipe.evaluation_query_length=17",
        "recipe.sparse.teacher_scale=0.5",
    )
    assert config.loss.negatives == 3
    assert config.budget.flops == 5e9
    assert config.paradigm.encoder["threshold"] == 1.5
    assert config.paradigm.regulariser is not None
    assert config.paradigm.regulariser["query_weight"] == 0.25
    assert config.evaluation.query_length == 17
    assert config.paradigm.teacher_scale == 0.5
    assert compose_cell("budget=steps").budget.kind is BudgetKind.steps


@pytest.mark.parametrize(
    "override",
    [
        "recipe.nonsense=1",
        "nonsense=1",
        "+recipe.nonsense=1",
        "model=nonsense",
        "+budget.more=1",
        "+evaluation.nonsense={a: 1}",
    ],
)
def test_an_unknown_key_is_refused(compose_cell: Compose, override: str) -> None:
    with pytest.raises((HydraException, UserError), match=r"nonsense|more"):
        compose_cell(override)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "many"),
        ("loss.batch_size", "1.5"),
        ("recipe.learning_rate", "fast"),
        ("recipe.precision", "fp8"),
        ("site.shard", "sometimes"),
        ("recipe.lengths", "3"),
        ("engine", "elastic"),
        ("tracking.kind", "paper"),
        ("model.proxy.tied", "perhaps"),
    ],
)
def test_a_wrong_type_is_refused(compose_cell: Compose, key: str, value: str) -> None:
    with pytest.raises(HydraException):
        compose_cell(f"{key}={value}")


def test_a_missing_value_is_asked_for(compose_cell: Compose) -> None:
    with pytest.raises(UserError, match=r"data\.path"):
        validate(compose_cell("data=beir"))


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["loss.batch_size=0"], "loss.batch_size=0"),
        (["recipe.micro_batch_tokens=-1"], "recipe.micro_batch_tokens=-1"),
        (["recipe.learning_rate=0"], "recipe.learning_rate=0"),
        (["recipe.checkpoint_every=0"], "recipe.checkpoint_every=0"),
        (["recipe.lengths.query=0"], "recipe.lengths.query=0"),
        (["recipe.dense.temperature=0", "paradigm=dense"], "paradigm.temperature=0"),
        (["evaluation.depth=0"], "evaluation.depth=0"),
        (["engine=seismic", "engine.kinds.sparse.query_cut=0"], "engine.kinds.sparse.query_cut=0"),
        (
            ["engine=seismic", "engine.kinds.sparse.heap_factor=1.5"],
            "engine.kinds.sparse.heap_factor=1.5",
        ),
        (["evaluation.measures=[P@10]"], "unknown measure 'P@10'"),
        (["evaluation.measures=['nDCG@10(rel=2)']"], "unknown measure 'nDCG@10(rel=2)'"),
        (["recipe.warmup=1.5"], "recipe.warmup=1.5"),
        (["recipe.sparse.flops_ramp=-0.1"], "recipe.sparse.flops_ramp=-0.1"),
        (["recipe.micro_batch_tokens=63"], "recipe.micro_batch_tokens=63"),
        (["evaluation.batch_tokens=63"], "evaluation.batch_tokens=63"),
        (["site.shard_tokens=63"], "site.shard_tokens=63"),
        (["site.encode_jobs=0"], "site.encode_jobs=0"),
        (["evaluation.kept_terms=0"], "evaluation.kept_terms=0"),
        (["loss=cl", "loss.terms.contrastive.candidates=7"], "candidates=7"),
        (["loss.negatives=-1"], "loss.negatives=-1"),
        (["recipe.negatives.cl=20", "recipe.negative_depth=20"], "loss.negatives=20"),
        (["recipe.flops=0"], "budget.flops=0"),
        (["budget.flops=null"], "budget.flops=None"),
        (["budget=steps", "budget.steps=0"], "budget.steps=0"),
        (["budget=steps", "budget.steps=null"], "budget.steps=None"),
        (["budget=epochs", "budget.epochs=0"], "budget.epochs=0"),
        (["budget.tolerance=-0.1"], "budget.tolerance=-0.1"),
        (["recipe=lion", "recipe.embedding_rate=0.1"], "recipe.embedding_rate"),
        (["recipe=lion", "recipe.lora.rank=-1"], "recipe.lora.rank=-1"),
        (["recipe.lora=null", "site.shard=always"], "site.shard=always"),
        (["model=smollm2", "model.backbone=null"], "model=smollm2"),
        (["ladder=full", "model.full=null"], "ladder=full"),
        (["data.packages=[]"], "data.packages"),
        (["+loss.terms.mine=3"], "loss.terms.mine"),
        (["+loss.terms.mine={_target_: nowhere.Loss}"], "loss.terms.mine._target_=nowhere.Loss"),
        (["+loss.terms.contrastive.nonsense=1"], "loss.terms.contrastive.nonsense"),
        (["+paradigm.encoder.nonsense=1"], "paradigm.encoder.nonsense"),
        (["+paradigm.regulariser.nonsense=1"], "paradigm.regulariser.nonsense"),
        (["loss=kd", "loss.negatives=0"], "loss.negatives=1"),
        (["model.name=mine/1b"], "model.name is 'mine/1b'"),
        (["loss.name=.mine"], "loss.name is '.mine'"),
    ],
)
def test_an_impossible_value_is_named(
    compose_cell: Compose, overrides: list[str], named: str
) -> None:
    config = compose_cell(*overrides)
    with pytest.raises(UserError, match=re.escape(named)):
        validate(config)


def test_a_path_may_begin_with_the_users_folder(
    compose_cell: Compose, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = str(tmp_path)
    monkeypatch.setenv("HOME", home)
    homely = ("data.groups=~/g", "paths.root=~/x", "paths.beir=~/b", "model.backbone=~/llama")
    homely += ("teacher.scorers.encoder.model=~/m", "tracking.group=~mine")
    quoted = [word.replace("=", "='") + "'" for word in homely]
    config = compose_cell("data=beir", "data.path=${paths.root}/set", *quoted)
    assert (config.paths.root, config.paths.beir) == (f"{home}/x", f"{home}/b")
    assert (config.data.path, config.data.groups) == (f"{home}/x/set", f"{home}/g")
    assert config.model.backbone == f"{home}/llama"
    assert config.teacher.scorers["encoder"]["model"] == f"{home}/m"
    assert config.tracking.group == "~mine"


def test_a_rank_alone_gives_a_stand_in_adapters(compose_cell: Compose) -> None:
    assert compose_cell().recipe.lora is None
    assert compose_cell("recipe=lion", "recipe.lora.rank=0").recipe.lora is None
    adapted = compose_cell("recipe.lora.rank=8", "recipe.embedding_rate=null")
    validate(adapted)
    assert adapted.recipe.lora is not None and adapted.recipe.lora.rank == 8


def test_an_interpolation_in_an_override_is_the_cells(compose_cell: Compose) -> None:
    assert compose_cell("seed=${loss.batch_size}", "loss.batch_size=12").seed == 12
    # What it brings into a section without types is what a file would have there.
    assert compose_cell("paradigm=dense").paradigm.encoder["normalize"] == "mean"


def test_values_at_the_edge_are_allowed(compose_cell: Compose) -> None:
    validate(compose_cell("recipe.warmup=0", "recipe.sparse.flops_ramp=1"))
    validate(compose_cell("recipe.micro_batch_tokens=64", "recipe.negatives.cl=999"))
    validate(compose_cell("loss=cl", "loss.negatives=0", "loss.terms.contrastive.candidates=16"))
    validate(compose_cell("loss=clkd", "loss.terms.contrastive.candidates=32"))  # 16 queries' two


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_file_says_what_it_is(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    head = next(line for line in lines if not line.startswith("# @package"))
    assert re.match(r"# \S+ \S+", head), head


@pytest.mark.parametrize("name", ["lion", "proxy"])
def test_recipe_numbers_have_their_unit(name: str) -> None:
    """Counts and lengths tell what they count, on their line or at the head of their block."""
    lines = (config_folder() / "recipe" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    for key in ("lengths", "batch_size", "gradient_cache", "negatives", "warmup", "adapt", "chunk"):
        line = next(line for line in lines if line.strip().startswith(f"{key}:"))
        assert "#" in line, line


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of somebody's own options: loss=mine, whose name is another's, and loss=cl."""
    (tmp_path / "loss").mkdir()
    shipped = (config_folder() / "loss" / "kd.yaml").read_text()
    for option in ("mine", "other"):
        (tmp_path / "loss" / f"{option}.yaml").write_text(shipped)
    return tmp_path


def compose_beside(own: Path, *cells: list[str]) -> list[Config]:
    """The cells with the options of a folder beside the shipped ones."""
    configuration.register()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose_cells([[f"hydra.searchpath=[file://{own}]", *words] for words in cells])[0]


def test_options_that_tables_could_not_tell_apart_are_refused(own: Path) -> None:
    with pytest.raises(UserError, match="loss=mine and loss=other are both named kd"):
        compose_beside(own, ["loss=mine"], ["loss=other"])
    with pytest.raises(UserError, match="loss=kd and loss=mine are both named kd"):
        compose_beside(own, ["loss=kd"], ["loss=mine"])
    named = [["loss=kd"], ["loss=mine", "loss.name=mine"], ["loss=kd"]]
    assert [config.loss.name for config in compose_beside(own, *named)] == ["kd", "mine", "kd"]


def test_a_time_limit_that_leaves_no_time_is_refused(compose_cell: Compose) -> None:
    short = compose_cell("site.time_limit=0.05", "site.slurm.signal=120")
    with pytest.raises(UserError, match=r"is 180 s, and SLURM may signal 120 \+ 60 s .*limit=0.06"):
        validate(short)
    validate(compose_cell("site.time_limit=0.06", "site.slurm.signal=120"))
