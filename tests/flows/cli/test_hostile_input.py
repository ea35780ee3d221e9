"""No command answers with a traceback for what a user typed or for what lies in a folder.

Each answers 0, 1 or 2, in words of its own: what it calls an unexpected error is a fault.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flows.cli.main import main
from flows.cli.overrides import load_with_overrides
from steps.recipe import ConfigRefused, Recipe, load_recipe
from tests.flows.made_up_chain import chain, finish

ROOT = Path(__file__).parents[3]
SMOKE = str(ROOT / "configs" / "smoke.yaml")

# What arguments of a process can be: no NUL.
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12)
ODD_WORDS = ". .. ../.. / : :: run-1: run-1:rl rl:rl run-1/../run-2 [red]x[/] [/] % _ ' * ? -1 0 ü a/b/c {0} \\ ~"
ODD_NAMES = st.sampled_from(["", "\n", '"; drop', "\u202e", "x" * 5000, *ODD_WORDS.split()])
NAMES = ODD_NAMES | TEXT
ODD_YAML = "~ null yes -1 0 .inf .nan 1e999 2024-99-99 [ *a = @ % 010 1:60:60"
LONG_YAML = [
    "9" * 5000,
    "0x" + "f" * 5000,
    "[" * 3000,
    "{a: 1, a: 2}",
    "&a [*a]",
    "!!binary x",
    "!!timestamp x",
    "<<: 1",
]
VALUES = st.sampled_from(["", *LONG_YAML, '"\\0"', '"\\ud800"', *ODD_YAML.split()])
ODD_NUMBERS = [-1, 1e308, float("nan"), float("inf"), 10**30]
ODD_TEXTS = ["", "[red]", "\u202e\x1b[31m", "9" * 400, "../../x", "é" * 200]
ODD_JSON: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, *ODD_NUMBERS, *ODD_TEXTS, [], {}, [[]], {"a": [1]}, [1, "a", None]]
)
JSON = ODD_JSON | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)

# Examples are small as they are, and making them smaller takes minutes.
common: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}
many = settings(max_examples=100, **common)
some = settings(max_examples=30, **common)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, and a tag that was moved."""
    folder = tmp_path_factory.mktemp("recorded")
    finish(chain(folder / "store"), folder / "made", accuracy=0.5)
    finish(chain(folder / "store", "rl.tau=0.25", run="run-2"), folder / "made", accuracy=0.6)
    for model in ("run-1:rl", "run-2:rl"):
        assert CliRunner().invoke(main, ["tag", "--store", str(folder / "store"), model, "production"]).exit_code == 0
    return folder / "store"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own, for what is typed may be the name of a file, and a home in it."""
    for module in ("flows.home", "flows.chain", "flows.stop", "flows.logs", "flows.cli.command", "flows.cli.schedule"):
        monkeypatch.setattr(f"{module}.HOME", tmp_path / "home")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def longhaul(*arguments: str) -> Result:
    result = CliRunner().invoke(main, [*arguments], env={"COLUMNS": "160"})
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (0, 1, 2)
    assert "a fault of Longhaul" not in result.output and "Traceback" not in result.output, result.output
    assert result.exit_code == 0 or result.output.strip(), "it failed without a word"
    return result


SECTIONS = [*Recipe.model_fields, "tau", "phase", "0", "1", "²", "", "_"]
KEYS = ["rl.tau", "rl.iterations", "engine.context", "trainer.ranks", "import_checkpoint.checkpoint", "data.nano_world"]


@given(keys=st.lists(st.sampled_from(SECTIONS) | TEXT, max_size=4), value=VALUES | TEXT)
@many
def test_a_setting_is_taken_or_refused(keys: list[str], value: str) -> None:
    taken_or_refused(".".join(keys), value)


@given(key=st.sampled_from([*Recipe.model_fields, *KEYS]), value=VALUES | TEXT)
@many
def test_any_value_of_a_key_is_taken_or_refused(key: str, value: str) -> None:
    taken_or_refused(key, value)


def taken_or_refused(key: str, value: str) -> None:
    try:
        load_with_overrides(SMOKE, [f"{key}={value}"])
    except ConfigRefused as error:
        assert str(error).strip()


BY_NAME = [
    ["show", "{}"],
    ["diff", "run-1", "{}"],
    ["runs", "{}"],
    ["runs", "--where={}"],
    ["note", "{}", "x"],
    ["failures", "{}"],
    ["compare", "run-1", "--columns={}"],
    ["report", "--run={}"],
    ["tag", "{}", "candidate"],
    ["tag", "run-1:rl", "{}"],
    ["tag", "--remove={}"],
    ["tag", "--history={}"],
    ["lineage", "upstream", "{}"],
    ["lineage", "downstream", "{}"],
    ["lineage", "saw", "{}"],
    ["lineage", "rerun", "{}"],
    ["lineage", "diff", "{}", "run-1:rl"],
    ["lineage", "samples", "{}"],
    ["lineage", "samples", "--sql={}", "rl"],
    ["lineage", "export", "--format=mermaid", "--upstream-of={}"],
    ["lineage", "upstream", "run-1:rl", "--index={}"],
    ["lineage", "upstream", "run-1:rl", "--index=sqlite:///{}"],
    ["store", "verify", "{}"],
    ["store", "gc", "--drop-run={}"],
]


@pytest.mark.parametrize("command", BY_NAME, ids=" ".join)
@given(name=NAMES)
@some
def test_any_name_is_found_or_refused(command: list[str], name: str, store: Path, elsewhere: Path) -> None:
    words = [word.replace("{}", name) for word in command]
    options = [word for word in words[1:] if word.startswith("--")]
    others = [word for word in words if word not in options]
    depth = 2 if command[0] in ("lineage", "store") else 1
    longhaul(*others[:depth], "--store", str(store), *options, "--", *others[depth:])


@given(
    option=st.sampled_from(["--select", "--against", "--from", "--only", "--until", "--reuse", "--seed", "--config"]),
    name=NAMES,
)
@some
def test_any_option_of_a_plan_is_taken_or_refused(option: str, name: str, store: Path, elsewhere: Path) -> None:
    config = [] if option == "--config" else ["--config", SMOKE]
    longhaul("plan", *config, "--set", f"store={store}", "--set", "tracking.mode=disabled", f"{option}={name}")


@given(name=NAMES, command=st.sampled_from(["logs", "stop"]))
@some
def test_any_runs_name_is_found_on_this_machine_or_refused(name: str, command: str, elsewhere: Path) -> None:
    assert longhaul(command, "--", name).exit_code == 1


@given(name=ODD_NAMES, command=st.sampled_from(["pause", "resume", "trigger", "next", "history"]))
@some
def test_any_schedules_name_is_found_or_refused(name: str, command: str, elsewhere: Path) -> None:
    longhaul("schedule", command, "--", name)


READING = [
    ["runs"],
    ["show", "run-1"],
    ["show", "run-1:rl"],
    ["failures"],
    ["compare", "run-1", "run-2", "--csv"],
    ["show", "run-2", "--json"],
    ["diff", "run-1", "run-2"],
    ["diff", "run-1", "run-2", "--json"],
    ["report"],
    ["tag"],
    ["tag", "run-1:rl", "candidate"],
    ["tag", "--history=production"],
    ["store", "ls"],
    ["store", "verify"],
    ["store", "gc", "--keep-runs=1"],
    ["lineage", "upstream", "run-1:rl"],
    ["lineage", "diff", "run-1:rl", "run-2:rl"],
    ["lineage", "export", "--format=openlineage"],
    ["lineage", "index", "--rebuild"],
]


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_what_is_whole_is_read(command: list[str], store: Path, elsewhere: Path) -> None:
    assert longhaul(*command, "--store", str(store)).exit_code == 0


@given(data=st.data())
@some
def test_any_file_in_a_store_is_read_or_named(data: st.DataObject, store: Path, elsewhere: Path) -> None:
    damaged = elsewhere / "damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(store, damaged, copy_function=os.link)
    path = data.draw(st.sampled_from(sorted(damaged.rglob("*.json"))), "file")
    raw = path.read_bytes()
    path.unlink()  # the original is the same file
    how = data.draw(st.sampled_from([*["changed"] * 3, "cut", "bytes", "gone", "folder", "stray"]), "how")
    if how == "changed":
        path.write_text(json.dumps(changed(data, json.loads(raw))))
    elif how == "cut":
        path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    elif how == "bytes":
        path.write_bytes(data.draw(st.binary(max_size=40)))
    elif how == "folder":
        path.mkdir()
    elif how == "stray":
        path.write_bytes(raw)
        name = data.draw(st.sampled_from(["x y.json", ".hidden", "z", "0", "deadbeef.json", "\u202e.json"]), "name")
        (path.parent / name).write_text(data.draw(st.sampled_from(["", "{}", "[]", "null"]), "content"))
    for command in (READING[0], data.draw(st.sampled_from(READING), "command")):
        longhaul(*command, "--store", str(damaged))
    if data.draw(st.booleans(), "plan"):
        longhaul("plan", "--config", SMOKE, "--set", f"store={damaged}", "--set", "tracking.mode=disabled")


@given(data=st.data())
@many
def test_any_recipe_is_planned_or_refused(data: st.DataObject, store: Path, elsewhere: Path) -> None:
    recipe = elsewhere / "recipe.yaml"
    how = data.draw(st.sampled_from(["changed", "changed", "value", "text", "bytes"]), "how")
    if how == "changed":
        plain = load_recipe(Path(SMOKE)).model_dump(mode="json")
        recipe.write_text(yaml.safe_dump(changed(data, plain)), encoding="utf-8")
    elif how == "value":
        recipe.write_text(data.draw(VALUES))
    elif how == "text":
        recipe.write_text(data.draw(TEXT), encoding="utf-8")
    else:
        recipe.write_bytes(data.draw(st.binary(max_size=40)))
    longhaul("plan", "--config", str(recipe), "--set", f"store={store}")


def changed(data: st.DataObject, value: Any) -> Any:
    """A value in which one part, however deep, differs, is missing, or is new."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 4), "deeper"):
        key = data.draw(st.sampled_from(sorted(value)), "key")
        how = data.draw(st.sampled_from(["changed"] * 4 + ["gone", "new"]), "how")
        if how == "gone":
            return {name: each for name, each in value.items() if name != key}
        if how == "new":
            return value | {data.draw(TEXT): 1}
        return value | {key: changed(data, value[key])}
    if isinstance(value, list) and value and data.draw(st.booleans(), "into the list"):
        place = data.draw(st.integers(0, len(value) - 1), "place")
        return [*value[:place], changed(data, value[place]), *value[place + 1 :]]
    return data.draw(JSON)
