"""Long reasoning paths of a teacher: what is asked, what becomes a path, and that no answer is asked for twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.topology import STAGES
from infra.inference.chat_endpoint import EndpointFailed
from infra.inference.endpoint_config import KeyUnusable
from infra.stages.contract import StageContext
from steps.behaviours import behaviours
from steps.chat import Chat
from steps.configs.custom_reward import CustomRewardConfig
from steps.configs.long_cot_paths import LongCotPathsConfig
from steps.long_cot_paths import AnswerFolder, choose_paths, collect_answers, make_queries
from steps.problem import Problem, load_examples, save_rows
from steps.recipe import Recipe, check_recipe, load_recipe
from steps.rewards.custom import CustomReward
from steps.rewards.scorer import Scorer
from steps.stages import long_cot_paths
from steps.teacher import EngineTeacher, Query, TeacherAnswer
from tests.chat_server import Reply, answer, chat_server
from tests.steps.scripted import Answer, scripted_bench

ROOT = Path(__file__).parents[2]
PROBLEMS = [
    Problem(id=f"p{number}", prompt=f"{number} + 1 = ?", answer=str(number + 1), verifier="math", source="made up")
    for number in range(6)
]
CONFIG = LongCotPathsConfig(problems=4, samples=4, max_response_tokens=40)


def test_each_instruction_is_used_as_often_and_the_same_seed_asks_the_same() -> None:
    queries = make_queries(PROBLEMS, CONFIG.model_copy(update={"samples": 2}), 0)
    assert len(queries) == 8 and len({one.problem.id for one in queries}) == 4
    for behaviour, instruction in CONFIG.instructions.items():
        of_it = [one for one in queries if one.behaviour == behaviour]
        assert len(of_it) == 2 and all(one.prompt == f"{one.problem.text}\n\n{instruction}" for one in of_it)
    assert queries == make_queries(PROBLEMS, CONFIG.model_copy(update={"samples": 2}), 0)
    assert queries != make_queries(PROBLEMS, CONFIG.model_copy(update={"samples": 2}), 1)


def test_words_that_announce_a_behaviour_are_recognised_in_plain_english() -> None:
    assert behaviours("To solve this, we need to add.") == {"planning"}
    assert behaviours("Let me verify: it makes sense.") == {"evaluation"}
    assert behaviours("On second thought, 7.") == behaviours("A mistake!") == {"reflection"}
    assert behaviours("Alternatively, another way is: 7.") == {"exploration"}
    assert behaviours("The firstborn tries nothing.") == set()


def test_only_right_whole_short_and_different_answers_become_paths(base: Path, tmp_path: Path) -> None:
    problem = PROBLEMS[1:2]
    config = CONFIG.model_copy(update={"samples": 6, "instructions": {"planning": "Plan first."}})
    script = [
        Answer("Plan: add. \\boxed{2}"),
        Answer("Plan: add. \\boxed{3}"),
        Answer("Plan: add. \\boxed{2}"),
        Answer("Plan: \\boxed{2}", "length"),
        Answer("Wait: \\boxed{2}"),
        Answer("7" * 30 + "\\boxed{2}"),
    ]
    with scripted_bench(base, lambda prompt, turn: script[turn]) as (bench, engine, _):
        teacher = EngineTeacher(bench, "the teacher", config)
        queries = make_queries(problem, config, 0)
        done = collect_answers(teacher, queries, AnswerFolder(tmp_path, "t"))
        short = config.model_copy(update={"max_response_tokens": 12})
        result = choose_paths(queries, done, bench.scorer, bench.chat, short, "the teacher")
        assert all(request.max_tokens == 40 and request.temperature == 0.8 for request in engine.requests)
        assert len({request.seed for request in engine.requests}) == 6
    outcomes = [row.outcome for row in result.rows]
    assert outcomes == ["right", "wrong", "right, written before", "cut at the length limit", "right", "too long"]
    assert [(path.prompt, path.response) for path in result.paths] == [
        ("1 + 1 = ?", "Plan: add. \\boxed{2}"),
        ("1 + 1 = ?", "Wait: \\boxed{2}"),
    ]
    assert result.paths[0].source == "the teacher on made up"
    metrics: Any = result.metrics()
    assert metrics["behaviours"] == {"planning": 1, "evaluation": 0, "reflection": 1, "exploration": 0}
    assert metrics["instructions"] == {"planning": {"answers": 6, "paths": 2, "show_it": 1}}
    assert metrics["outcomes"]["right"] == 2 and metrics["answers"] == 6


def test_answers_of_which_none_is_a_path_are_refused_with_the_counts(base: Path, tmp_path: Path) -> None:
    with scripted_bench(base, lambda prompt, turn: "\\boxed{9}") as (bench, _, _):
        queries = make_queries(PROBLEMS[:2], CONFIG, 0)
        done = collect_answers(EngineTeacher(bench, "t", CONFIG), queries, AnswerFolder(tmp_path, "t"))
        with pytest.raises(ValueError, match=r"none of 8 answers of t is a path \(8 × wrong\): use another teacher"):
            choose_paths(queries, done, bench.scorer, bench.chat, CONFIG, "t")


def test_what_failed_for_what_may_be_over_is_asked_again_and_its_tokens_stay_counted(tmp_path: Path) -> None:
    class Once:
        name = "once"

        def answer(self, queries: Any, answered: Any) -> None:
            for question in queries:
                answered(question, replies.pop(0))

    queries = [Query(PROBLEMS[0], "planning", "?", seed) for seed in (1, 2)]
    replies = [
        TeacherAnswer(ended="failed", reason="no answer", lost=(3, 40), passing=True),
        TeacherAnswer(ended="failed", reason="no choices", prompt_tokens=2),
        TeacherAnswer(ended="stop", response="7", prompt_tokens=2, completion_tokens=5),
    ]
    first = collect_answers(Once(), queries, AnswerFolder(tmp_path, "t"))
    assert [one.reason for one in first] == ["no answer", "no choices"]
    folder = AnswerFolder(tmp_path, "t")
    again = collect_answers(Once(), queries, folder)
    assert not replies and [one.response for one in again] == ["7", ""]
    assert folder.tokens == AnswerFolder(tmp_path, "t").tokens == (3 + 2 + 2, 40 + 5) and folder.usable == 1
    assert AnswerFolder(tmp_path, "another").get(queries[0]) is None


def test_a_custom_reward_counts_as_right_from_one_half(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "reward.py"
    file.write_text("def score(prompt, response, answer, problem): return float(response)")
    custom = CustomReward(file, "reward.py", CustomRewardConfig(file="reward.py"), workers=1)
    problem = PROBLEMS[0].model_copy(update={"verifier": "custom"})
    responses = ["0.25", "0.5", "many"]
    queries = [Query(problem, "planning", "?", place) for place in range(len(responses))]
    done = [TeacherAnswer(ended="stop", response=response) for response in responses]
    with Scorer(custom=custom) as scorer:
        result = choose_paths(queries, done, scorer, Chat(base), CONFIG, "t")
    assert [row.outcome for row in result.rows] == ["wrong", "right", "no verdict"]


def test_problems_with_images_are_left_out_unless_there_are_no_others() -> None:
    parts = ({"type": "text", "text": "What is this?"}, {"type": "image", "image": "one.png"})
    image = Problem.model_validate({"id": "image", "prompt": parts, "answer": "7", "verifier": "math"})
    queries = make_queries([image, *PROBLEMS], CONFIG.model_copy(update={"problems": 99}), 0)
    assert {query.problem.id for query in queries} == {problem.id for problem in PROBLEMS}
    with pytest.raises(ValueError, match="none of 1 problems can be put to a teacher"):
        make_queries([image], CONFIG, 0)


def test_the_last_of_many_failures_is_the_one_that_counts(tmp_path: Path) -> None:
    query = Query(PROBLEMS[0], "planning", "?", 1)
    for number in range(12):
        AnswerFolder(tmp_path, "t").add(query, TeacherAnswer(ended="failed", reason=f"try {number}", passing=True))
    assert AnswerFolder(tmp_path, "t").final(query).reason == "try 11"


def recipe_with(url: str, **endpoint: Any) -> Recipe:
    raw = load_recipe(ROOT / "configs" / "smoke.yaml").model_dump(mode="json")
    teacher = {"endpoint": {"url": url, "model": "teacher", "concurrency": 2, **endpoint}}
    return check_recipe(raw | {"long_cot_paths": {"teacher": teacher, **CONFIG_FIELDS}}, "test")


CONFIG_FIELDS: dict[str, Any] = {"problems": 6, "samples": 4, "max_response_tokens": 96}


def context(folder: Path, base: Path) -> StageContext:
    data = folder / "data"
    choice = Problem(id="choice", prompt="Which of the following is right? (A) 1 (B) 2", answer="A", verifier="math")
    with_system = [problem.model_copy(update={"system": "You count."}) for problem in PROBLEMS]
    save_rows(data / "train.jsonl", [*with_system, choice])
    inputs = {"data": data, "model": base}
    return StageContext(0, inputs, folder / "out", folder / "checkpoints", lambda metrics: None)


def reply(question: str, turn: int) -> Reply:
    number = int(question.split()[0])
    right = "Plan: add." if "plan" in question else "Wait: again." if "Wait" in question else "Let me check."
    return answer(
        f"{right} \\boxed{{{number + 1}}}", reasoning_content="Try 7. " if "Alternatively" in question else None
    )


def run_stage(recipe: Recipe, where: StageContext) -> Any:
    settings: Any = STAGES["long_cot_paths"].settings(recipe)
    return long_cot_paths.run(where, settings)


def test_an_endpoint_is_asked_about_the_training_set_and_each_answer_is_kept_with_its_prompt(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", " sk-secret\n")
    with chat_server(reply) as server:
        output = run_stage(recipe_with(server.url, key_variable="TEACHER_KEY"), context(tmp_path, base))
    assert len(server.requests) == 24 and server.asked_for("Which of the following") == 0
    assert set(server.keys) == {"Bearer sk-secret"}
    paths = load_examples(output.outputs["paths"][1] / "long_cot.jsonl")
    assert {(turn["role"], turn["content"]) for one in server.requests for turn in one["messages"][:1]} == {
        ("system", "You count.")
    }
    assert {path.prompt for path in paths} == {problem.text for problem in PROBLEMS}
    assert "<think>Try 7. </think>\n\nLet me check. \\boxed{1}" in [path.response for path in paths]
    rows = [json.loads(line) for line in (output.outputs["answers"][1] / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 24 and rows[0]["prompt"].startswith(rows[0]["problem_id"][1:] + " + 1 = ?\n\n")
    samples = pq.read_table(output.outputs["samples"][1] / "samples.parquet").to_pylist()
    assert len(samples) == 24 and {row["outcome"] for row in samples} == {"offered"}
    assert {row["times_trained"] for row in samples} == {0}
    assert {row["prompt_digest"] for row in samples} == {problem.digest for problem in PROBLEMS}
    assert output.metrics["behaviours"] == {"planning": 6, "evaluation": 12, "reflection": 6, "exploration": 6}
    assert output.metrics["teacher_tokens"] == {"prompts": 120, "answers": 240}
    assert output.metrics["teacher"] == f"teacher at {server.url}"
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert everything and not any(b"sk-secret" in path.read_bytes() for path in everything)


def test_without_its_key_nothing_is_asked(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with chat_server(reply) as server:
        with pytest.raises(KeyUnusable, match="names TEACHER_KEY, and no environment variable has that name"):
            run_stage(recipe_with(server.url, key_variable="TEACHER_KEY"), context(tmp_path, base))
        assert not server.requests


def test_a_limit_that_is_raised_resumes_with_the_answers_that_are_there(base: Path, tmp_path: Path) -> None:
    with chat_server(reply) as server:
        with pytest.raises(EndpointFailed, match="max_total_tokens is 500"):
            run_stage(recipe_with(server.url, max_total_tokens=500), context(tmp_path, base))
        before = len(server.requests)
        assert 0 < before < 24
        output = run_stage(recipe_with(server.url, max_total_tokens=5000), context(tmp_path, base))
    assert len(server.requests) == 24 and output.metrics["answers"] == 24


KILLED = """
import sys
from pathlib import Path
from tests.steps.test_long_cot_paths import context, recipe_with, run_stage
run_stage(recipe_with(sys.argv[1]), context(Path(sys.argv[2]), Path(sys.argv[3])))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stage_that_is_killed_half_way_asks_only_for_what_is_missing(
    number: signal.Signals, base: Path, tmp_path: Path
) -> None:
    hold = True

    def script(question: str, turn: int) -> Reply:
        if hold and len(server.requests) > 10:
            return Reply(seconds=20)
        return reply(question, turn)

    with chat_server(script) as server:
        command = [sys.executable, "-c", KILLED, server.url, str(tmp_path), str(base)]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            # The tests themselves may run in the background of a shell, which ignores Ctrl-C there.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        finished = tmp_path / "checkpoints" / "answers"
        while len(list(finished.glob("*.json"))) < 10:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        process.wait()
        files = [json.loads(path.read_text()) for path in finished.glob("*.json")]
        if number == signal.SIGINT:  # what was under way may be billed
            assert sum(sum(one.get("lost", ())) > 96 for one in files) == 2
        hold, retained = False, sum(one["ended"] == "stop" for one in files)
        before = len(server.requests)
        output = run_stage(recipe_with(server.url), context(tmp_path, base))
    assert len(server.requests) - before == 24 - retained
    assert output.metrics["answers"] == 24
