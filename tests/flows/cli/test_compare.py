"""Many runs: tables with chosen columns, groups of seeds with intervals and paired differences, and their curves."""

import csv
import io
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import flows.chain
from flows.cli.compare_figure import draw
from flows.cli.main import main
from infra.lineage.index import LineageIndex
from infra.lineage.run_values import RunValues, groups_of
from infra.store import records
from infra.store.open import open_store
from infra.store.records import ForkPoint
from tests.flows.made_up_chain import chain, finish

TRAINED = ["vanilla_sft", "evaluate/vanilla_sft", "curation", "long_cot_sft", "evaluate/long_cot_sft"]
STAGES = ["data", "import", "evaluate/import", *TRAINED, "rl", "evaluate/rl"]
ACCURACIES = {"0.1": (0.50, 0.52, 0.54), "0.25": (0.61, 0.62, 0.63)}
"""By rl.tau and seed. The differences are 0.11, 0.10 and 0.09: 0.1 ± 4.303 · 0.01 / √3."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.chain, "HOME", folder / "home")
        for tau, accuracies in ACCURACIES.items():
            for seed, accuracy in enumerate(accuracies):
                made = chain(folder / "store", f"rl.tau={tau}", f"seed={seed}", run=f"tau{tau}-{seed}")
                rl = finish(made, folder / "made", accuracy, STAGES)["rl"]
                history = [{"accuracy": 0.1 * step + 0.01 * seed, "loss": 1.0 - step / 10} for step in range(5)]
                records.write(made.store, f"stage-runs/{made.name}", rl.model_copy(update={"history": history}))
    return folder / "store"


@pytest.fixture
def longhaul(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Commands":
    for module in ("flows.chain", "flows.home", "flows.cli.run", "flows.cli.report"):
        monkeypatch.setattr(f"{module}.HOME", tmp_path / "home")
    return Commands(store)


class Commands:
    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--store", str(self.store)], env={"COLUMNS": "180"})


ALL = [f"tau{tau}-{seed}" for tau in ACCURACIES for seed in range(3)]


def test_runs_are_grouped_by_all_but_the_seed_and_differences_are_paired(longhaul: Commands) -> None:
    reported = json.loads(longhaul("compare", *ALL, "--json").output)["groups"]
    assert [(each["group"], each["seeds"]) for each in reported] == [
        ("rl.tau=0.1", [0, 1, 2]),
        ("rl.tau=0.25", [0, 1, 2]),
    ]
    base, other = (each["figures"]["rl:accuracy"] for each in reported)
    assert base["difference"] is None
    assert base["mean"] == pytest.approx(0.52)
    assert other["difference"]["mean"] == pytest.approx(0.1)
    assert other["difference"]["low"] == pytest.approx(0.1 - 4.303 * 0.01 / 3**0.5, abs=1e-6)
    assert other["by_seed"] == {"0": 0.61, "1": 0.62, "2": 0.63}


def test_only_seeds_that_both_groups_have_are_paired(longhaul: Commands) -> None:
    reported = json.loads(longhaul("compare", "tau0.1-0", "tau0.1-2", "tau0.25-1", "tau0.25-2", "--json").output)
    other = reported["groups"][1]["figures"]["rl:accuracy"]
    assert (other["seeds"], other["difference"]["seeds"]) == (2, 1)
    assert other["difference"]["mean"] == pytest.approx(0.09)
    assert other["difference"]["low"] is None


def test_the_table_shows_chosen_columns_in_the_chosen_order(longhaul: Commands) -> None:
    columns = ("--columns", "rl.tau,rl.groups,rl:accuracy,rl:seconds")
    printed = longhaul("compare", *ALL, *columns, "--sort", "-rl:accuracy").output
    assert "tau0.25-0, tau0.25-1, tau0.25-2" in printed
    (worse,) = (line for line in printed.splitlines() if "52.0%" in line)
    (better,) = (line for line in printed.splitlines() if "62.0%" in line)
    assert better.split()[-3:] == ["+10.0%", "[+7.5%,", "+12.5%]"]
    assert printed.index(better) < printed.index(worse)
    assert "differences from rl.tau=0.1, paired by seed" in " ".join(printed.split())
    rows = list(csv.DictReader(io.StringIO(longhaul("compare", *ALL, *columns, "--csv").output)))
    assert [(row["figure"], row["rl.tau"], row["rl.groups"]) for row in rows[:2]] == [
        ("rl:accuracy", "0.1", "6"),
        ("rl:accuracy", "0.25", "6"),
    ]
    assert float(rows[1]["difference"]) == pytest.approx(0.1)


def test_runs_that_continued_from_other_iterations_are_other_groups(store: Path, tmp_path: Path) -> None:
    opened = open_store(store)
    index = LineageIndex.of(opened, tmp_path)
    index.sync(opened)

    def continued(name: str, parent: str, iteration: int) -> RunValues:
        detail = index.run(name)
        point = ForkPoint(run=parent, stage="rl", iteration=iteration)
        stages = [
            record.model_copy(update={"forked_from": point}) if record.stage == "rl" else record
            for record in detail.stages
        ]
        return RunValues(detail.row, lambda: replace(detail, stages=tuple(stages)))

    alone = RunValues(index.run(ALL[0]).row, partial(index.run, ALL[0]))
    forks = [continued(ALL[seed], f"parent-{seed}", 20) for seed in range(3)]
    groups = groups_of([alone, *forks, continued(ALL[0], "parent-0", 30)])
    assert [len(group.runs) for group in groups] == [1, 3, 1]
    assert [group.label for group in groups] == ["fork=null", "fork=rl@20", "fork=rl@30"]
    index.close()


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_curves_of_all_runs_are_one_picture(longhaul: Commands, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"curves.{ending}"
    done = longhaul("compare", *ALL, "--figure", str(file), "--curve", "rl:accuracy")
    assert done.exit_code == 0, done.output
    content = file.read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"<?xml")
    if ending == "svg":
        text = content.decode()
        assert "rl.tau=0.25" in text and "rl:accuracy" in text
        assert text.count('id="line2d_') > 8, "a line for each of the six runs, and for each mean"
        longhaul("compare", *ALL, "--figure", str(tmp_path / "default.svg"))
        assert "rl:loss" in (tmp_path / "default.svg").read_text()


def test_dollar_signs_in_settings_are_drawn_as_they_are(store: Path, tmp_path: Path) -> None:
    opened = open_store(store)
    index = LineageIndex.of(opened, tmp_path)
    index.sync(opened)
    runs = [RunValues(index.run(name).row, partial(index.run, name)) for name in ALL]
    groups = [replace(group, label=f"{group.label} $\\frac$") for group in groups_of(runs)]
    draw(tmp_path / "curves.svg", groups, ["rl:accuracy"])
    assert "rl.tau=0.25 $\\frac$" in (tmp_path / "curves.svg").read_text()
    index.close()


def test_figures_with_a_space_in_their_name_are_conditions_too(longhaul: Commands) -> None:
    refused = longhaul("runs", "--where", "rl:training accuracy>0.5")
    assert "no run has a column 'rl:training accuracy'" in refused.stderr


def test_a_time_is_a_condition(longhaul: Commands) -> None:
    assert json.loads(longhaul("runs", "--where", "started>=2000", "--json").output)["total"] == 6
    assert json.loads(longhaul("runs", "--where", "started<2000-01-01", "--json").output)["total"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the runs to compare, or choose them with --where"),
        (["nothing"], "there is no run 'nothing'; the newest is tau0.25-2"),
        (["--where", "rl.tau>7"], "no run meets rl.tau>7"),
        (["--where", "rl.tau"], "'rl.tau' is not a condition: expected COLUMN and one of ="),
        (["--where", "rl.taw=7"], "no run has a column 'rl.taw'; near it are rl.tau"),
        (["tau0.1-0", "--columns", "rl:acuracy"], "near it are rl:accuracy"),
        (["tau0.1-0", "--figure", "x.gif"], "expected a file that ends in .svg, .png, .pdf"),
        (["tau0.1-0", "--figure", "x.svg", "--curve", "rl:los"], "no such curve; those of 'rl' are: accuracy, loss"),
        (["tau0.1-0", "--curve", "rl:loss"], "--curve says what --figure draws"),
        (["tau0.1-0", "--json", "--csv"], "--json and --csv exclude each other"),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(longhaul: Commands, arguments: list[str], message: str) -> None:
    refused = longhaul("compare", *arguments)
    assert refused.exit_code == 1, refused.output
    assert message in refused.stderr and "Traceback" not in refused.stderr


def test_runs_are_listed_by_chosen_columns_filtered_and_sorted(longhaul: Commands) -> None:
    options = ("--columns", "seed,rl.tau,rl:accuracy", "--where", "rl:accuracy>0.52", "--where", "run~TAU0")
    printed = longhaul("runs", *options, "--sort", "-rl:accuracy", "--csv").output
    assert printed.splitlines() == [
        "run,seed,rl.tau,rl:accuracy",
        "tau0.25-2,2,0.25,0.63",
        "tau0.25-1,1,0.25,0.62",
        "tau0.25-0,0,0.25,0.61",
        "tau0.1-2,2,0.1,0.54",
    ]
    listed = json.loads(longhaul("runs", *options, "--sort", "rl:accuracy", "--limit", "1", "--json").output)
    assert listed == {
        "runs": [{"run": "tau0.1-2", "seed": 2, "rl.tau": 0.1, "rl:accuracy": 0.54}],
        "total": 4,
    }
    assert "4 of 4 runs" in longhaul("runs", *options).output


def test_several_seeds_are_several_runs_each_with_a_command_of_its_own(
    longhaul: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Commands(shutil.copytree(longhaul.store, tmp_path / "store"))
    settings = ["--set", f"store={copy.store}", "--set", "tracking.mode=disabled", "--set", "rl.tau=0.25"]
    command = ["run", "--config", "configs/smoke.yaml", *settings, "--seeds", "0,2", "--until", "evaluate/rl", "--json"]
    monkeypatch.setattr("sys.argv", ["longhaul", *command])
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    (group,) = json.loads(done.stdout)["groups"]
    assert (group["seeds"], group["figures"]["rl:accuracy"]["mean"]) == ([0, 2], pytest.approx(0.62))
    alone = [part for part in command if part not in ("--seeds", "0,2")]
    for run, seed in zip(group["runs"], ("0", "2"), strict=True):
        start = json.loads(copy("show", run, "--json").output)["start"]
        assert (start["command"], start["recipe"]["seed"]) == ([*alone, "--seed", seed], int(seed))


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--seeds", "0,1", "--seed", "1"], 1, "--seed and --seeds exclude each other"),
        (["--seeds", "0,1,"], 2, "expected whole numbers with commas"),
        (["--seeds", "1,1"], 2, "1 is there twice"),
        (["--seeds", "\u0663"], 2, "expected whole numbers with commas"),
    ],
)
def test_seeds_that_are_none_are_refused(options: list[str], status: int, message: str) -> None:
    refused = CliRunner().invoke(main, ["run", *options])
    assert refused.exit_code == status and message in refused.output
