"""Whether what a run made is what it would make today."""

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import flows.chain
import flows.staleness
from flows.runs import start_run
from flows.staleness import StalenessCheck
from infra.store import records
from infra.store.records import Failure, StageRecord
from tests.flows.made_up_chain import chain, finish, recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A store in which run-1 has finished, as a recipe's file asked for it, and the run's records."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows.chain, "HOME", folder / "home")
        made = finish(chain(folder / "store", "rl.tau=0.2"), folder / "made")
    return SimpleNamespace(folder=folder, made=made)


class Place:
    """A copy of that store, with the recipe's file."""

    def __init__(self, finished: SimpleNamespace, folder: Path) -> None:
        self.folder, self.made, self.origin = folder, finished.made, finished.folder / "store"
        shutil.copytree(self.origin, folder / "store")
        self.store = chain(folder / "store").store
        self.file = folder / "recipe.yaml"
        self.write()
        self.command = ["run", "--config", str(self.file), "--set", "rl.tau=0.2"]
        self.start(self.command)

    def write(self, *settings: str) -> None:
        self.file.write_text(yaml.safe_dump(recipe(self.folder / "store", *settings).model_dump(mode="json")))

    def start(self, command: list[str]) -> None:
        start_run(self.store, "run-1", recipe(self.folder / "store", "rl.tau=0.2").model_dump(mode="json"), command)

    def states(self) -> dict[str, flows.staleness.Staleness]:
        check = StalenessCheck(self.store)
        return {stage: check.of(record) for stage, record in self.made.items()}


@pytest.fixture
def place(finished: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for module in (flows.chain, flows.staleness):
        monkeypatch.setattr(module, "HOME", tmp_path / "home")
    return Place(finished, tmp_path)


def stale(place: Place) -> list[str]:
    return [stage for stage, each in place.states().items() if each.state == "stale"]


def test_what_nothing_has_changed_for_is_current_and_needs_no_command(place: Place) -> None:
    states = place.states()
    assert {each.state for each in states.values()} == {"current"}
    assert {(each.reasons, each.command) for each in states.values()} == {((), None)}


def test_a_changed_recipe_makes_its_stage_and_what_follows_stale_and_the_command_is_the_runs_own(place: Place) -> None:
    place.write("long_cot_sft.paths=61")
    states = place.states()
    assert states["data"].state == states["curation"].state == "current"
    assert states["long_cot_sft"].reasons == ("long_cot_sft.paths changed: 60 → 61",)
    assert states["rl"].reasons == ("long_cot_sft runs",)
    command = shlex.join(["longhaul", *place.command, "--until", "rl"])
    assert (states["rl"].command, states["rl"].compared_with) == (command, str(place.file))


def test_the_runs_own_changes_to_the_recipe_still_hold(place: Place) -> None:
    place.write("rl.tau=0.3")
    assert stale(place) == [], "--set rl.tau=0.2 overrides the file, as it did then"


def test_a_recipes_file_that_is_gone_is_replaced_by_what_was_recorded(place: Place) -> None:
    place.file.unlink()
    assert {each.compared_with for each in place.states().values()} == {"the recipe that run run-1 recorded"}
    assert stale(place) == []


def test_what_cannot_be_compared_is_unknown_and_says_why(place: Place) -> None:
    place.write(f"import_checkpoint.checkpoint={place.folder}/none")
    unknown = place.states()["rl"]
    assert (unknown.state, unknown.command) == ("unknown", None)
    assert "today's plan cannot be made: import_checkpoint.checkpoint: " in unknown.reasons[0]
    evaluated = place.made["evaluate/rl"].model_copy(update={"stage": "evaluate"})
    other = place.made["rl"].model_copy(update={"run": "run-9"})
    check = StalenessCheck(place.store)
    assert check.of(evaluated).reasons == ("'evaluate' is not a stage of the chain: no plan has it",)
    assert check.of(other).reasons == ("run run-9 has no record of its start: what it ran with is unknown",)


def damage(record: StageRecord) -> StageRecord:
    return record.model_copy(update={"failure": Failure(error="LossNotFinite: nan\nmore"), "outputs": {}})


def move(record: StageRecord) -> StageRecord:
    return record.model_copy(update={"environment": {**record.environment, "processor": "another"}})


def reword(record: StageRecord) -> StageRecord:
    return record.model_copy(update={"modules": {**record.modules, "steps.rl.objective": "0" * 64}})


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        (damage, "stale", "it failed: LossNotFinite: nan"),
        (move, "current", "made in another numeric environment than this machine's"),
    ],
)
def test_failures_are_stale_and_another_machine_is_not(
    place: Place, change: Callable[[StageRecord], StageRecord], state: str, reason: str
) -> None:
    actual = StalenessCheck(place.store).of(change(place.made["rl"]))
    assert (actual.state, actual.reasons) == (state, (reason,))


def test_other_code_with_the_same_bytes_is_current_and_with_others_stale(place: Place) -> None:
    check, record = StalenessCheck(place.store), reword(place.made["rl"])
    assert check.of(record).state == "current", "today's code is known to make these bytes"
    other = record.model_copy(update={"outputs": {"model": record.outputs["model"].model_copy(update={"digest": "0"})}})
    assert check.of(other).reasons[0].startswith("steps.rl.objective changed")


def test_outputs_that_are_gone_are_stale(place: Place) -> None:
    copied = place.folder / "store" / Path(place.made["rl"].outputs["model"].address).relative_to(place.origin)
    shutil.rmtree(copied.parent)
    assert "has no folder" in place.states()["rl"].reasons[0]


def test_an_answer_is_valid_for_a_while_and_then_made_again(place: Place) -> None:
    lasting, brief = StalenessCheck(place.store, seconds=1000), StalenessCheck(place.store, seconds=0)
    assert [check.of(place.made["rl"]).state for check in (lasting, brief)] == ["current", "current"]
    place.write("rl.groups=7")
    assert [check.of(place.made["rl"]).state for check in (lasting, brief)] == ["current", "stale"]


def test_a_run_that_took_outputs_from_another_is_compared_with_those(place: Place) -> None:
    place.write("long_cot_sft.paths=61")
    place.start([*place.command, "--only", "rl", "--reuse", "run-1"])
    state = place.states()["rl"]
    assert state.state == "current", "its inputs are run-1's, whatever the recipe says of what is before it"


def test_records_that_no_chain_could_have_made_break_nothing(place: Place) -> None:
    odd = place.made["rl"].model_copy(update={"config": {"own": None}, "upstream": {}, "key_format": 1})
    records.write(place.store, "stages/odd", odd)
    assert StalenessCheck(place.store).of(odd).state == "current", "its bytes are today's"
