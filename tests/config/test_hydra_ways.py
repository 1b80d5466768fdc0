"""Each of Hydra's own ways to say what a cell is: it works, or it is refused by its name."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lion_sweep import grid
from lion_sweep.config import Config, composing

FILES = {
    "mine.yaml": "defaults: [config, _self_]\nseed: 9\nrecipe: {learning_rate: 1.0e-3}\n",
    "swept.yaml": 'defaults: [config, _self_]\nhydra: {sweeper: {params: {seed: "5,6"}}}\n',
    "foreign.yaml": "seed: 9\n",
    "elsewhere.yaml": "defaults: [config, _self_]\nhydra: {run: {dir: out}}\n",
    "loss/mine.yaml": "defaults: [cl, _self_]\nname: mine\n",
}


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A folder of somebody's own configurations."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return str(tmp_path)


class Started:
    """What came of a command: its exit status, and the cells that it would have run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
        self.configs: list[Config] = []
        self.references: list[Config | None] = []

        def run(configs: list[Config], references: list[Config | None]) -> int:
            self.configs, self.references = configs, references
            return grid.COMPLETE

        monkeypatch.setattr(sys, "argv", ["lion_sweep", *words])
        self.status: object = 0
        try:
            grid.start(run)
        except SystemExit as left:
            self.status = left.code


Start = Callable[..., Started]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """Give a command whose cells are composed, and not run."""
    monkeypatch.chdir(tmp_path)  # Hydra writes into it where a primary configuration is not ours
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    yield lambda *words: Started(monkeypatch, words)


def seeds(started: Started) -> list[int]:
    assert started.status == 0
    return [config.seed for config in started.configs]


def test_a_configuration_that_is_named_is_where_cells_start(start: Start, own: str) -> None:
    mine = start("--config-dir", own, "--config-name", "mine")
    assert seeds(mine) == [9] and mine.configs[0].recipe.learning_rate == 1e-3
    several = start("-m", "--config-dir", own, "--config-name", "mine", "loss=cl,mine")
    assert seeds(several) == [9, 9]
    assert [config.loss.name for config in several.configs] == ["cl", "mine"]
    over = start("-cd", own, "-cn", "mine", "seed=4", "budget=anchor")
    assert seeds(over) == [4] and over.references[0] is not None
    assert over.references[0].recipe.learning_rate == 1e-3  # the same command's


def test_what_a_configuration_or_a_word_has_swept_is_swept(start: Start, own: str) -> None:
    named = ["--config-dir", own, "--config-name", "swept"]
    assert seeds(start(*named)) == seeds(start("-m", *named)) == [5, 6]
    assert seeds(start("-m", *named, "seed=8")) == [8]
    assert seeds(start(*named, "seed=8")) == [8]
    both = start("-m", *named, "paradigm=dense,sparse")
    assert [(c.seed, c.paradigm.name) for c in both.configs] == [
        (5, "dense"), (5, "sparse"), (6, "dense"), (6, "sparse"),
    ]  # fmt: skip
    params = ("hydra.sweeper.params={seed: '5,6'}", "hydra.sweeper.params.seed='5,6'")
    for word in (*params, *(f"+{word}" for word in params)):
        assert seeds(start("-m", word)) == seeds(start(word)) == [5, 6]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("seed=3", [3]),
        ("seed=range(1,4)", [1, 2, 3]),
        ("seed=choice(4,2)", [4, 2]),
        ("++seed=1,2", [1, 2]),
        ("hydra.searchpath=[]", [42]),
        ("hydra.mode=MULTIRUN", [42]),
    ],
)
def test_values_of_a_grid(start: Start, word: str, found: list[int]) -> None:
    assert seeds(start("--multirun", word)) == found


def test_a_grid_that_has_a_name(start: Start) -> None:
    """Six sizes that ascend, at three budgets; whatever is given beside it counts more."""
    configs = start("grid=isoflop").configs
    assert configs == start("-m", "grid=isoflop").configs and len(configs) == 18
    by_size = {config.model.name: config.model.proxy for config in configs}
    budgets = {config.budget.flops for config in configs}
    assert len(by_size) == 6 and budgets == {2e11, 6e11, 1.8e12}
    weights = [
        shape.layers * shape.hidden_size * (2 * shape.hidden_size + 3 * shape.intermediate_size)
        for shape in by_size.values()
        if shape
    ]
    assert weights == sorted(set(weights)) and len(weights) == 6
    assert all(shape and shape.hidden_size == 32 * shape.heads for shape in by_size.values())
    fewer = start("-m", "grid=isoflop", "model=1b,3b", "paradigm=dense", "budget.flops=1e12")
    assert [(c.model.name, c.paradigm.name) for c in fewer.configs] == [
        ("1b", "dense"), ("3b", "dense"),
    ]  # fmt: skip


def test_a_pattern_names_options(start: Start) -> None:
    found = start("-m", "loss=glob(c*)", "model=glob(*,exclude=[smollm2,8b,stand-in*])")
    assert [(config.loss.name, config.model.name) for config in found.configs] == [
        ("cl", "1b"), ("cl", "3b"), ("clkd", "1b"), ("clkd", "3b"),
    ]  # fmt: skip


def test_keys_are_added_changed_and_taken_away(start: Start) -> None:
    words = ["++seed=7", "+model.epochs.mine=4", "~model.epochs.kd", "data.name='a, b'"]
    for several in ([], ["-m"]):
        (config,) = start(*several, *words).configs
        assert (config.seed, config.data.name) == (7, "a, b")
        assert config.model.epochs == {"cl": 7, "clkd": 7, "mine": 4}


def test_an_interpolation_is_each_cells_own(start: Start) -> None:
    found = start("-m", "seed=1,2", "recipe.negative_depth=${seed}")
    assert [config.recipe.negative_depth for config in found.configs] == [1, 2]


def test_words_and_options_may_stand_in_any_order(start: Start, own: str) -> None:
    mine = start("seed=1,2", "--config-name", "mine", "paradigm=dense", "--config-dir", own, "-m")
    assert seeds(mine) == [1, 2]
    assert {config.paradigm.name for config in mine.configs} == {"dense"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "seed=interval(1,4)"], "has no end of values: list those to try, as in seed=1,2"),
        (["-m", "loss=glob(x*)"], "loss=glob(x*) fits no option of loss"),
        (["seed=1,2"], "--multirun"),
        (["--config-path", "conf"], "--config-dir=FOLDER adds yours"),
        (["--config-dir", "OWN", "--config-name", "nothing"], "nothing"),
        (["--config-dir", "OWN", "--config-name", "foreign"], "`defaults: [config, _self_]`"),
        (["-m", "--config-dir", "OWN", "--config-name", "foreign"], "`defaults: [config, _self_]`"),
        (["--config-dir", "OWN", "--config-name", "elsewhere"], "hydra.run.dir=out is not read"),
        (["hydra.run.dir=out"], "hydra.run.dir=out is not read: paths.root=FOLDER"),
        (["-m", "hydra.sweep.dir=out"], "hydra.sweep.dir=out is not read: paths.root=FOLDER"),
        (["hydra.job.chdir=true"], "hydra.job.chdir=True is not read"),
        (["+hydra.job.env_set.A=1"], "hydra.job.env_set={'A': '1'} is not read"),
        (["-m", "hydra/launcher=joblib"], "joblib"),
        (["--mutirun"], "--mutirun is no option: say --multirun."),
        (["--config-nam=mine", "--wach"], "--wach is no option"),
        (["--resolve"], "--cfg"),
        (["--experimental-rerun", "x"], "--experimental-rerun reads what Hydra has written"),
        (["--run", "--multirun"], "Only one of --run, --multirun"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    start: Start, own: str, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    refused = start(*(own if word == "OWN" else word for word in words))
    printed = capsys.readouterr()
    assert refused.status == 2 and not refused.configs
    assert said in printed.err
    assert "Traceback" not in printed.err and "usage:" not in printed.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--help"], "Groups and their options"),
        (["--hydra-help"], "--hydra-help"),
        (["--cfg", "job"], "seed: 42"),
        (["--cfg", "hydra"], "sweeper:"),
        (["--cfg", "job", "--package", "recipe"], "learning_rate:"),
        (["--cfg", "job", "--resolve", "recipe.flops=5e9"], "flops: 5000000000.0"),
        (["--info", "defaults"], "Defaults List"),
        (["--info", "config"], "seed: 42"),
        (["--version"], "Hydra"),
    ],
)
def test_what_is_shown(
    start: Start, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    shown = start(*words)
    assert shown.status == 0 and not shown.configs
    assert said in capsys.readouterr().out


def test_an_interruption_while_cells_are_composed_is_a_line(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    # Handlers of loggers hold what earlier tests have captured, and that is closed.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(composing, "composed", interrupted)
    assert start("-m", "seed=1,2").status == 130
    said = capsys.readouterr().err.strip()
    assert said.startswith("lion_sweep: interrupted: ") and said.count("\n") == 0


def test_a_surprise_is_a_sentence_and_a_traceback_for_who_asks(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def surprised(*_: object, **__: object) -> None:
        raise RuntimeError("what nobody thought of\nand more of it")

    monkeypatch.setattr(composing, "composed", surprised)
    said = "lion_sweep: RuntimeError: what nobody thought of (LION_SWEEP_TRACEBACK=1 shows where)\n"
    assert start().status == 2 and capsys.readouterr().err == said
    monkeypatch.setenv("LION_SWEEP_TRACEBACK", "1")
    assert start().status == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback") and shown.endswith(f"and more of it\n{said}")
