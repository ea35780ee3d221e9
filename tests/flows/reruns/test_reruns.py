"""Which change makes which stages run again: a table of changes, each with the stages whose keys it changes.

What follows a stage that runs again is keyed by what that stage makes, and is reused where it makes the same bytes.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.topology import STAGES
from infra.stages.key import KeyParts
from infra.store.backend import StoreError
from infra.store.records import StageRecord
from tests.flows.made_up_chain import chain, finish, recipe
from tests.flows.reruns.changes import (
    BASE,
    COMPUTE,
    EVALUATIONS,
    GENERATE,
    NONE,
    TRAIN,
    changed,
    checked_again,
)
from tests.hub_server import Hub, serve


@pytest.mark.parametrize(
    ("setting", "stages"),
    [
        ("seed=1", set(STAGES) - {"import", "long2short/merge", "long_cot_paths", "reward_models"}),
        ("data.nano_world.test_problems=13", {"data"}),
        ("import_checkpoint.context_length=1024", {"import"}),
        ("engine.kv_cache_mb=128", GENERATE),
        ("engine.max_sequences=32", GENERATE),
        ("engine.gpu_memory_share=0.4", GENERATE),
        ("trainer.weight_decay=0.1", TRAIN),
        ("trainer.micro_batch_tokens=1024", TRAIN),
        ("trainer.clip_gradient_norm=0.5", TRAIN),
        ("handover.transport=checkpoint_engine", TRAIN - {"long_cot_sft"}),
        ("vanilla_sft.expansion.samples=3", {"vanilla_sft"}),
        ("curation.guesses=3", {"curation"}),
        ("long_cot_sft.paths=61", {"long_cot_sft"}),
        ("rl.tau=0.25", {"rl"}),
        ("rl.sampling.curriculum_iterations=1", {"rl"}),
        ("long2short.merge.long_weight=0.8", {"long2short/merge"}),
        ("long2short.shortest.responses.problems=8", {"long2short/shortest"}),
        ("long2short.dpo.beta=0.3", {"long2short/dpo"}),
        ("long2short.rl.tau=0.2", {"long2short/rl"}),
        ("evaluation.samples=3", EVALUATIONS),
        ("evaluation.examples=1", EVALUATIONS),
        ("evaluation.temperature=0.5", EVALUATIONS),
        ("rl.keep_every=1", NONE),
        ("long2short.rl.keep_every=1", NONE),
        ("name=another", NONE),
        ("tracking.mode=offline", NONE),
        ("reuse_across_environments=true", NONE),
        ("schedule={cron: '0 3 * * 1'}", NONE),
        ("notify={webhook: HOOK}", NONE),
        ("cluster={namespace: other, environment: {NVIDIA_TF32_OVERRIDE: '1'}}", NONE),
    ],
)
def test_a_setting_is_in_the_keys_of_the_stages_that_use_it(
    store: Path, done: dict[str, StageRecord], setting: str, stages: set[str]
) -> None:
    assert changed(chain(store, setting), done) == stages


def test_without_expansion_vanilla_sft_does_not_depend_on_the_engine(store: Path, tmp_path: Path) -> None:
    off = "vanilla_sft.expansion.problems=0"
    done = finish(chain(store, off), tmp_path / "made")
    assert "vanilla_sft" not in changed(chain(store, off, "engine.kv_cache_mb=128"), done)


@pytest.mark.parametrize(
    ("rules", "keys", "gates"),
    [
        # The wording of a rule, another threshold, on what a stage reads: the gate checks again, and no stage runs.
        ("{RL prompts: [{type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}}]}", NONE, {"rl"}),
        # On what it makes, only the stage itself can check; its wording changes nothing.
        (
            "{ledger: [{type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}, description: rows}]}",
            {"rl"},
            {"rl"},
        ),
    ],
)
def test_a_rule_of_a_gate_checks_again_what_was_read_and_reruns_what_makes_the_table(
    store: Path, done: dict[str, StageRecord], rules: str, keys: set[str], gates: set[str]
) -> None:
    made = chain(store, f"gates.suites={{rl: {rules}}}")
    assert changed(made, done) == keys
    assert checked_again(made, done) == gates


def test_the_wording_of_a_rule_on_what_a_stage_makes_is_not_in_its_key(store: Path, tmp_path: Path) -> None:
    rule = "{type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}, description: DESCRIPTION}"
    one, other = (f"gates.suites={{rl: {{ledger: [{rule.replace('DESCRIPTION', words)}]}}}}" for words in ("a", "b"))
    done = finish(chain(store, one), tmp_path / "made")
    assert changed(chain(store, other), done) == NONE


def test_the_same_checkpoint_by_another_path_or_with_a_file_beside_it_changes_nothing(
    store: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "base"
    shutil.copytree(BASE, copy)
    done = finish(chain(store, f"import_checkpoint.checkpoint={copy}"), tmp_path / "made")
    relative = chain(store, f"import_checkpoint.checkpoint={copy.parent}/./base/")
    assert changed(relative, done) == NONE
    assert changed(chain(store), done) == NONE, "the shipped one has the same files"
    (copy / "README.md").write_text("not part of the checkpoint")
    assert changed(chain(store, f"import_checkpoint.checkpoint={copy}"), done) == NONE
    (copy / "generation_config.json").write_text("{}")
    assert changed(chain(store, f"import_checkpoint.checkpoint={copy}"), done) == {"import"}


def test_the_same_data_files_by_another_path_change_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("train", "test", "sft", "long_cot")
    for name in names:
        (tmp_path / f"{name}.jsonl").write_text(name)
    base = f"import_checkpoint.checkpoint={BASE.resolve()}"
    monkeypatch.chdir(tmp_path)

    def files(place: str) -> str:
        return "data={sources: {" + ", ".join(f"{name}: [{{path: {place}{name}.jsonl}}]" for name in names) + "}}"

    done = finish(chain(store, base, files("")), tmp_path / "made")
    for place in ("./", f"{tmp_path}/", "../" + tmp_path.name + "/"):
        assert changed(chain(store, base, files(place)), done) == NONE
    (tmp_path / "sft.jsonl").write_text("other")
    assert changed(chain(store, base, files("")), done) == {"data"}


def test_a_benchmark_reruns_evaluations_alone_and_training_data_beside_it_check_again(
    store: Path, done: dict[str, StageRecord], tmp_path: Path
) -> None:
    for name, text in {"rows": "a", "copy": "a", "other": "b"}.items():
        (tmp_path / f"{name}.jsonl").write_text(text)

    def named(path: str, more: str = "") -> str:
        return f"evaluation.benchmarks=[{{name: gsm8k, path: {tmp_path}/{path}.jsonl{more}}}]"

    assert changed(chain(store, named("rows")), done) == EVALUATIONS
    evaluated = finish(chain(store, named("rows")), tmp_path / "made")
    assert changed(chain(store, named("copy")), evaluated) == NONE, "the same rows by another path"
    assert changed(chain(store, named("other")), evaluated) == EVALUATIONS
    assert changed(chain(store, named("rows", ", samples: 2")), evaluated) == EVALUATIONS
    assert checked_again(chain(store, named("copy")), evaluated) == NONE
    assert checked_again(chain(store, named("other")), evaluated) == EVALUATIONS
    # Other training data, the same test problems: the evaluation stands, and its gate looks again.
    place = tmp_path / "data"
    place.mkdir()
    for name in ("train", "test", "sft", "long_cot"):
        content = json.dumps(["data", "data", "test.jsonl", evaluated["data"].key])
        (place / f"{name}.jsonl").write_text(content if name == "test" else "other")
    made = chain(store, named("rows"))
    data = evaluated["data"].model_copy(update={"outputs": {"data": made.store.put(place, "dataset")}})
    after = {**evaluated, "data": data}
    assert "evaluate/rl" not in changed(made, after) and "evaluate/rl" in checked_again(made, after)


def test_what_models_wrote_is_compared_with_benchmarks_from_the_stage_on_that_learns_from_it(
    store: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text("a")
    named = f"evaluation.benchmarks=[{{name: gsm8k, path: {tmp_path}/rows.jsonl}}]"
    settings = (named, "long_cot_paths={max_response_tokens: 96}", "vanilla_sft.expansion.problems=4")
    made = chain(store, *settings)
    done = finish(made, tmp_path / "made")
    for stage, output, file, unaffected in (
        ("vanilla_sft", "expanded", "sft.jsonl", {"evaluate/import"}),
        ("long_cot_paths", "paths", "long_cot.jsonl", {"evaluate/import", "evaluate/vanilla_sft"}),
    ):
        (tmp_path / output).mkdir()
        (tmp_path / output / file).write_text("other")
        outputs = done[stage].outputs | {output: made.store.put(tmp_path / output, "dataset")}
        after = {**done, stage: done[stage].model_copy(update={"outputs": outputs})}
        assert checked_again(made, after) & EVALUATIONS == EVALUATIONS - unaffected, stage
        assert not changed(made, after) & EVALUATIONS, "the evaluations themselves stand"


def test_the_name_of_a_benchmarks_file_is_in_no_key(store: Path) -> None:
    one, other = (
        STAGES["evaluate/rl"].key_settings(
            recipe(store, f"evaluation.benchmarks=[{{name: mine, source: {{path: {name}.jsonl}}}}]")
        )
        for name in ("one", "other")
    )
    assert one == other and one["own"]["benchmarks"][0]["name"] == "mine"


def test_a_benchmark_that_cannot_be_had_is_refused_with_its_key(store: Path, tmp_path: Path) -> None:
    missing = chain(store, f"evaluation.benchmarks=[{{name: gsm8k, path: {tmp_path}/rows.jsonl}}]")
    with pytest.raises(StoreError, match=r"evaluation\.benchmarks\.gsm8k: .*No such file"):
        missing.sources(STAGES["evaluate/rl"])


JUDGE = "def score(prompt, response, answer, problem):\n    return RETURNED\n"


def test_the_content_of_a_reward_of_ones_own_is_in_the_keys_of_the_stages_that_judge_with_it(
    store: Path, done: dict[str, StageRecord], tmp_path: Path
) -> None:
    for name, text in {"one": "1", "copy": "1", "other": "0"}.items():
        (tmp_path / f"{name}.py").write_text(JUDGE.replace("RETURNED", text))

    def judging(name: str, more: str = "") -> tuple[str, ...]:
        return (f"judging={{custom: {{file: {tmp_path}/{name}.py{more}}}}}",)

    assert changed(chain(store, *judging("one")), done) == COMPUTE, "all stages that judge"
    judged = finish(chain(store, *judging("one")), tmp_path / "made")
    assert changed(chain(store, *judging("copy")), judged) == NONE, "the same content by another path"
    assert changed(chain(store, *judging("other")), judged) == COMPUTE
    assert changed(chain(store, *judging("one", ", seconds: 3")), judged) == COMPUTE
    assert changed(chain(store, *judging("one", ", untrusted: true")), judged) == COMPUTE
    off = "vanilla_sft.expansion.problems=0"
    without = finish(chain(store, off, *judging("one")), tmp_path / "without")
    assert changed(chain(store, off, *judging("other")), without) == COMPUTE - {"vanilla_sft"}


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "No such file"), ("def other(): pass", "has no function 'score'")],
)
def test_a_reward_that_is_missing_is_refused_with_its_key_before_anything_runs(
    store: Path, tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "judge.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreError, match=f"^judging.custom.file: .*({words})"):
        chain(store, f"judging={{custom: {{file: {path}}}}}").sources(STAGES["rl"])


def test_a_branch_of_the_hub_that_moved_imports_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = "1" * 40, "2" * 40
    hub = Hub(BASE, {"main": first, first: first, second: second})
    with serve(hub, tmp_path / "hub cache", monkeypatch):
        made = chain(store, "import_checkpoint.checkpoint=owner/base")
        done = finish(made, tmp_path / "made")
        assert done["import"].sources == {f"hf://owner/base@{first}": first}, "a node of the lineage"
        assert changed(chain(store, "import_checkpoint.checkpoint=owner/base"), done) == NONE
        hub.revisions["main"] = second
        moved = chain(store, "import_checkpoint.checkpoint=owner/base")
        assert changed(moved, done) == {"import"}
        pinned = chain(store, "import_checkpoint.checkpoint=owner/base", f"import_checkpoint.revision='{first}'")
        assert changed(pinned, done) == NONE, "the same commit by another name"


Edit = Callable[[str], str]


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace("\n\n\n", "\n\n\n# a comment\n", 1),
        lambda text: text.replace('"""', '"""Said otherwise. ', 1),
        lambda text: text.replace("description=", "description='' or ", 1),
    ],
)
def test_comments_docstrings_and_descriptions_change_no_key(edit: Edit, tmp_path: Path) -> None:
    from infra.stages import code_digest

    for name in ("steps/configs/rl.py", "steps/rl/objective.py"):
        before, after = tmp_path / "before.py", tmp_path / "after.py"
        text = Path(name).read_text()
        before.write_text(text)
        after.write_text(edit(text))
        assert code_digest._content(before, 1) == code_digest._content(after, 1)


def test_a_key_is_the_same_in_whatever_order_its_parts_come(done: dict[str, StageRecord]) -> None:
    record = done["rl"]
    fields = ("config", "upstream", "modules", "packages", "environment")
    turned = record.model_copy(update={name: dict(reversed(getattr(record, name).items())) for name in fields})
    assert KeyParts.of(turned).key == KeyParts.of(record).key == record.key


ENDPOINT = "long_cot_paths={max_response_tokens: 96, teacher: {endpoint: {url: 'http://127.0.0.1:1/v1', model: m}}}"


def test_a_teacher_behind_an_endpoint_is_asked_again_for_its_own_questions_alone(store: Path, tmp_path: Path) -> None:
    done = finish(chain(store, ENDPOINT), tmp_path / "made")
    assert STAGES["long_cot_sft"].inputs(recipe(store, ENDPOINT))["paths"].stage == "long_cot_paths"
    own, endpoint = "long_cot_paths", "long_cot_paths.teacher.endpoint"
    for setting, stages in (
        ("long_cot_sft.phase.learning_rate=0.01", {"long_cot_sft"}),
        ("vanilla_sft.phases.0.learning_rate=0.01", {"vanilla_sft"}),
        ("engine.max_sequences=32", (GENERATE & done.keys()) - {own}),
        (f"{endpoint}.max_total_tokens=1000", NONE),
        (f"{endpoint}.key_variable=KEY", NONE),
        (f"{endpoint}.concurrency=3", NONE),
        (f"{endpoint}.model=other", {own}),
        (f"{own}.samples=3", {own}),
    ):
        assert changed(chain(store, ENDPOINT, setting), done) == stages, setting
    # Other weights before it, and other curated prompts: its inputs are the training set and the imported tokenizer.
    for stage in ("vanilla_sft", "curation"):
        outputs = {name: ref.model_copy(update={"digest": "0" * 64}) for name, ref in done[stage].outputs.items()}
        other = {**done, stage: done[stage].model_copy(update={"outputs": outputs})}
        made = chain(store, ENDPOINT)
        with_own = chain(store, "long_cot_paths={max_response_tokens: 96}")
        assert made.parts(own, done).key == made.parts(own, other).key
        assert {each.stage for each in STAGES[own].inputs(with_own.recipe).values()} == {"vanilla_sft", "curation"}
