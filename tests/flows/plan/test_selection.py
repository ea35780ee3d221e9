"""Which part of the chain a command selects, and what it may reuse for the rest."""

from pathlib import Path
from typing import Any

import pytest

import flows.chain
from flows.chain import StageMissing
from flows.models import run_records
from flows.selection import Selection, SelectionRefused
from flows.topology import enabled_stages
from infra.errors import LonghaulError
from infra.store import records
from infra.store.records import Failure
from tests.flows.made_up_chain import chain, finish
from tests.flows.plan.planned import RL_AND_AFTER, SHORT, plan, runs


def test_a_stage_alone_needs_what_is_before_it(store: Path) -> None:
    planned = plan(chain(store, "rl.tau=0.25", only="rl"))
    assert runs(planned) == ["rl", "evaluate/rl"]
    assert [planned[stage].action for stage in SHORT] == ["skip"] * 4
    with pytest.raises(StageMissing, match=r"'long_cot_sft' is needed.*--only rl.*--from long_cot_sft.*--reuse RUN"):
        plan(chain(store, "rl.tau=0.25", "long_cot_sft.paths=61", only="rl"))


def test_another_runs_outputs_stand_in_whatever_their_keys(store: Path) -> None:
    planned = plan(chain(store, "long_cot_sft.paths=61", only="rl", reuse="run-1"))
    assert planned["long_cot_sft"].reason == "taken from run run-1 as requested, with another key"
    assert planned["rl"].action == "reuse", "its inputs are those of run-1, and so is its key"
    with pytest.raises(StageMissing, match="run no-such-run has no finished stage 'data'"):
        plan(chain(store, only="rl", reuse="no-such-run"))


def test_a_run_that_went_as_far_as_is_needed_can_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.chain, "HOME", tmp_path / "home")
    made = chain(tmp_path / "store")
    stages = list(enabled_stages(made.recipe))
    finish(made, tmp_path / "made", stages=stages[: stages.index("long_cot_sft") + 1])
    for selection in ({"only": "rl"}, {"start": "rl", "until": "rl"}, {"selectors": ("rl",)}):
        planned = plan(chain(tmp_path / "store", "seed=1", reuse="run-1", **selection))
        assert runs(planned) == ["rl", "evaluate/rl"]
        assert planned["long_cot_sft"].reason == "taken from run run-1 as requested, with another key"
        assert {planned[stage].action for stage in SHORT} == {"skip"}
    with pytest.raises(StageMissing, match="run run-1 has no finished stage 'rl'"):
        plan(chain(tmp_path / "store", "seed=1", reuse="run-1", only="long2short/dpo"))


def test_a_teacher_is_not_asked_again_where_its_run_is_named_for_reuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.chain, "HOME", tmp_path / "home")
    finish(chain(tmp_path / "store", "long_cot_paths={max_response_tokens: 96}"), tmp_path / "made")
    changed = "long_cot_paths={max_response_tokens: 97}"  # as code that its key holds
    assert plan(chain(tmp_path / "store", changed))["long_cot_paths"].action == "run"
    planned = plan(chain(tmp_path / "store", changed, start="long_cot_sft", reuse="run-1"))
    assert planned["long_cot_paths"].reason == "taken from run run-1 as requested, with another key"


def test_from_and_until_choose_a_part_and_force_runs_it(store: Path) -> None:
    planned = plan(chain(store, start="long_cot_sft", until="rl", force=True))
    assert runs(planned) == ["long_cot_sft", "evaluate/long_cot_sft", "rl", "evaluate/rl"]
    assert planned["rl"].reason == "requested (--force)"
    alone = plan(chain(store, start="long2short/dpo", force=True))
    assert runs(alone) == ["long2short/dpo", "evaluate/long2short/dpo"]


LONG = ["long_cot_sft", "evaluate/long_cot_sft"]


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        (("rl+",), RL_AND_AFTER),
        (("+import",), ["data", "import", "evaluate/import"]),
        (("+curation",), ["data", "import", "evaluate/import", "vanilla_sft", "evaluate/vanilla_sft", "curation"]),
        (("curation", "rl"), ["curation", "rl", "evaluate/rl"]),
        (("curation rl",), ["curation", "rl", "evaluate/rl"]),
        (("long2short/*",), RL_AND_AFTER[2:]),
        (("evaluate/rl",), ["evaluate/rl"]),
        (("+rl,long_cot_sft+",), [*LONG, "rl", "evaluate/rl"]),
        (("state:modified",), [*LONG, "long2short/dpo", "evaluate/long2short/dpo"]),
        (("state:modified+",), [*LONG, *RL_AND_AFTER]),
        (("state:modified+,+rl",), [*LONG, "rl", "evaluate/rl"]),
    ],
    ids=" ".join,
)
def test_selectors_match_stages_as_those_of_dbt(
    finished: Path, selectors: tuple[str, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.chain, "HOME", finished.parent / "home")
    changed = ("long_cot_sft.paths=61", "long2short.dpo.beta=0.3")
    assert chain(finished, *changed, selectors=selectors).selected == set(expected)


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        (("rll",), r"--select rll matches no stage of this recipe; near it are rl[,.;]"),
        (("+long2short/dop+",), r"--select \+long2short/dop\+ matches no stage.*near it are long2short/dpo"),
        (("state:modifed",), "near it are state:modified"),
        (("vision*",), "there are data, import, "),
        (("state:modified+",), "nothing has changed since run run-1"),
        (("rl,curation",), "--select rl,curation: no stage is matched by each of its parts"),
        (("",), "--select names no stage; there are data, import"),
        (("rl", "++rl"), r"--select \+\+rl matches no stage"),
    ],
    ids=" ".join,
)
def test_a_selector_that_matches_nothing_is_refused_with_the_near_names(
    finished: Path, selectors: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.chain, "HOME", finished.parent / "home")
    with pytest.raises(SelectionRefused, match=message):
        chain(finished, selectors=selectors)


def test_a_changed_input_is_not_a_modification_and_the_run_to_compare_with_can_be_named(store: Path) -> None:
    finish(chain(store, "long_cot_sft.paths=61", run="run-2"), store.parent / "made")
    assert chain(store, "long_cot_sft.paths=62", selectors=("state:modified",)).selected == set(LONG)
    assert chain(store, selectors=("state:modified",), against="run-2").selected == set(LONG)
    with pytest.raises(SelectionRefused, match="nothing has changed since run run-1"):
        chain(store, selectors=("state:modified",), against="run-1")
    with pytest.raises(LonghaulError, match="there is no run run-9; the newest is run-2"):
        chain(store, selectors=("state:modified",), against="run-9")


def test_everything_is_modified_since_a_run_of_which_nothing_succeeded(store: Path) -> None:
    made = chain(store)
    (data,) = (each for each in run_records(made.store, "run-1") if each.stage == "data")
    failed = data.model_copy(update={"run": "run-2", "failure": Failure(error="ValueError: no"), "outputs": {}})
    records.write(made.store, "stage-runs/run-2", failed)
    assert chain(store, selectors=("state:modified",), against="run-2").selected == made.selected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selectors": ("rl",), "until": "rl"}, r"--select cannot go with --until: write STAGE\+ for --from"),
        ({"selectors": ("rl",), "start": "rl", "only": "rl"}, "--select cannot go with --only and --from"),
        ({"against": "a b"}, "--against 'a b' is not a run's name"),
        ({"only": "rl", "until": "rl"}, "--only cannot go with"),
        ({"reuse": "run-1"}, "--reuse needs --from, --only or --select"),
        ({"reuse": "../../x", "only": "rl"}, r"--reuse '\.\./\.\./x' is not a run's name.*`longhaul runs`"),
        ({"reuse": "", "only": "rl"}, "--reuse '' is not a run's name"),
        ({"reuse": "a b", "start": "rl"}, "--reuse 'a b' is not a run's name"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionRefused, match=message):
        Selection(**options)


def test_stages_that_are_not_there_or_do_not_follow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SelectionRefused, match=r"no stage 'rll'.*long2short/dpo"):
        chain(tmp_path, only="rll")
    with pytest.raises(SelectionRefused, match="no stage lies between --from rl and --until import"):
        chain(tmp_path, start="rl", until="import")
