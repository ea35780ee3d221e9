"""Public benchmarks: definitions, rows from files and from a hub, and what a model gets on them, counted by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from infra.stages.contract import StageContext
from infra.store.source import Source
from infra.store.sources import bring, resolve_split
from steps.benchmark_rows import as_published, chosen, load_benchmark, rows_digest, source_key
from steps.benchmark_run import run_benchmark
from steps.configs.benchmarks import BenchmarkConfig, shipped_benchmarks
from steps.configs.evaluation import EvaluationConfig
from steps.configs.gates import shipped_suite
from steps.gates.inputs import evaluate as evaluation_gates
from steps.problem import Example, MalformedRow, Part, Problem, save_rows
from tests.hub_server import Hub, serve
from tests.steps.scripted import Answer, scripted_bench

SHARED = Path(__file__).parents[3] / "shared" / "data"
LONG = (
    "A train of seven red wagons leaves the northern station at noon and reaches the harbour after two hours; how many"
)
ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": [
        {"question": "Tom has 3 pens and buys 4. How many pens?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"},
        {"question": f"{LONG} wagons?", "answer": "Seven.\n#### 7"},
    ],
    "math500": [
        {
            **{"problem": "What is $1+1$?", "solution": r"It is \boxed{2}.", "answer": "2", "subject": "Algebra"},
            **{"level": 1, "unique_id": "test/algebra/1.json"},
        }
    ],
    "aime24": [{"id": 60, "problem": "Find x.", "solution": "204", "answer": "204", "url": "", "year": "2024"}],
    "humaneval": [
        {
            "task_id": "HumanEval/0",
            "prompt": 'def one():\n    """Return 1."""\n',
            "entry_point": "one",
            "canonical_solution": "    return 1\n",
            "test": "def check(candidate):\n    assert candidate() == 1\n",
        }
    ],
    "mbpp": [
        {
            **{"task_id": 11, "text": "Write a function to double a number.", "code": "def f(n):\n    return 2 * n"},
            **{"test_list": ["assert f(1) == 2"], "test_setup_code": "", "challenge_test_list": []},
        }
    ],
}
"""Rows as the public data sets have them."""


def rows_file(folder: Path, name: str, rows: list[dict[str, Any]] | None = None) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS[name]))
    return Source(path, str(path))


@pytest.mark.parametrize("name", shipped_benchmarks())
def test_each_definition_reads_rows_of_its_public_data_set(tmp_path: Path, name: str) -> None:
    config = BenchmarkConfig.model_validate(name)
    assert config.title and config.citation and config.licence and config.source.hub and config.problems
    problems = load_benchmark(rows_file(tmp_path, name), config)
    assert len(problems) == len(ROWS[name])
    assert as_published(problems, config) is False, "these are not the published rows"
    [first, *_] = chosen(problems, config)
    assert first.text.startswith(problems[0].text) and first.text.endswith(config.instruction)


@pytest.mark.parametrize(
    ("name", "file"), [("gsm8k", "gsm8k/test.jsonl"), ("humaneval", "humaneval/HumanEval.jsonl.gz")]
)
def test_the_published_rows_are_known_by_their_digest(name: str, file: str) -> None:
    path = SHARED / file
    if not path.is_file():
        pytest.skip(f"{file} is not on this machine")
    config = BenchmarkConfig.model_validate(name)
    problems = load_benchmark(Source(path, str(path)), config)
    assert as_published(problems, config) is True
    assert rows_digest(problems) == rows_digest(problems[::-1]), "their order does not matter"
    assert as_published(problems[:-1], config) is False


def test_rows_come_from_the_hub_at_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "1" * 40
    rows_file(tmp_path / "files" / "main", "gsm8k").path.rename(tmp_path / "files" / "main" / "test.jsonl")
    hub = Hub(tmp_path / "files", {"main": commit, commit: commit}, kind="datasets")
    with serve(hub, tmp_path / "cache", monkeypatch):
        source = bring(resolve_split("owner/base", "main", "test"), tmp_path / "downloads")
    problems = load_benchmark(source, BenchmarkConfig.model_validate("gsm8k"))
    assert [problem.answer for problem in problems] == ["7", "7"] and source.address.endswith(commit)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("gsm9k", "'gsm9k' is not a benchmark that is here .*gsm8k.*give `source`"),
        ({"name": "gsm8k", "sample": 3}, "sample"),
        ({"name": "gsm8k", "samples": 0}, "samples"),
        ({"name": "GSM 8K"}, "is not a benchmark that is here"),
        ({"name": "mine", "source": {"path": "rows.jsonl", "format": "chat"}}, "rows of format chat"),
        ({"name": "mine", "source": {"path": "rows.jsonl", "limit": 5}}, "source.limit .* own `limit` beside"),
        (
            {"name": "mine", "source": {"path": "rows.jsonl", "skip_refused": True}},
            "without some of a benchmark",
        ),
    ],
)
def test_a_benchmark_that_cannot_be_run_is_refused_with_its_name(raw: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        BenchmarkConfig.model_validate(raw)


def test_a_benchmark_may_not_be_named_twice() -> None:
    with pytest.raises(ValidationError, match="gsm8k stands twice"):
        EvaluationConfig.model_validate({"benchmarks": ["gsm8k", {"name": "gsm8k", "samples": 2}]})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question": "How many?"}], r"evaluation.benchmarks.gsm8k: .*gsm8k.jsonl:1: .*answer"),
        ([{"question": "How many?", "answer": "7"}], "no '####' before"),
    ],
)
def test_rows_of_another_form_are_refused_by_file_and_line(
    tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(MalformedRow, match=words):
        load_benchmark(rows_file(tmp_path, "gsm8k", rows), BenchmarkConfig.model_validate("gsm8k"))
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(MalformedRow, match="has no rows"):
        load_benchmark(Source(empty, str(empty)), BenchmarkConfig.model_validate("gsm8k"))


def test_examples_come_before_the_question() -> None:
    config = BenchmarkConfig.model_validate(
        {"name": "gsm8k", "shots": [{"question": "1 + 1?", "answer": "2"}], "instruction": "Go."}
    )
    [problem] = chosen([Problem(id="a", prompt="2 + 2?", answer="4", verifier="math")], config)
    assert problem.prompt == "Question: 1 + 1?\nAnswer: 2\n\nQuestion: 2 + 2?\n\nGo."
    [problem] = chosen([problem.model_copy(update={"prompt": (Part(type="text", text="2 + 2?"),)})], config)
    assert problem.text == "Question: 1 + 1?\nAnswer: 2\n2 + 2?\nGo.", "also where a prompt has parts"


RESPONSES: dict[str, list[str | None]] = {"Tom": ["7", "7.0", "8", "8"], "wagons": ["9", "14/2", "9", None]}
"""Answers to both problems of GSM8K, which is 7: two of four right, then one of four."""


def test_a_models_figures_are_as_counted_by_hand(base: Path, tmp_path: Path) -> None:
    def script(prompt: str, turn: int) -> Answer:
        answer = next(answers for word, answers in RESPONSES.items() if word in prompt)[turn]
        return Answer("no", "length") if answer is None else Answer(f"\\boxed{{{answer}}}")

    config = BenchmarkConfig.model_validate({"name": "gsm8k", "samples": 4, "instruction": ""})
    with scripted_bench(base, script) as (bench, engine, _):
        result = run_benchmark(bench, rows_file(tmp_path, "gsm8k"), config)
        longest = max(len(request.tokens) for request in engine.requests)
        assert result.max_response_tokens == bench.context - longest, "what the context has room for"
    assert (result.problems, result.samples) == (2, 4)
    # Two of four and one of four; half their difference is the standard error of two problems.
    assert result.accuracy == 0.375 and result.standard_error == 0.125 and result.low == pytest.approx(0.13)
    assert result.pass_at == {1: 0.375, 2: pytest.approx((5 / 6 + 1 / 2) / 2), 4: 1.0}
    # Groups of two: (7, 7.0) and (8, 8); (9, 14/2), where 9 came first, and (9,). Of all four: 7 came first; 9 has two.
    assert result.majority_at == {1: 0.375, 2: 0.25, 4: 0.5}
    assert result.cut_off == 1 / 8 and result.as_published is False


def test_training_rows_that_a_benchmark_has_are_listed_as_exact_near_and_overlapping(tmp_path: Path) -> None:
    config = BenchmarkConfig.model_validate("gsm8k")
    source = rows_file(tmp_path, "gsm8k")
    data = tmp_path / "data"
    save_rows(data / "test.jsonl", [Problem(id="t", prompt="Held out?", answer="1", verifier="math")])
    save_rows(
        data / "train.jsonl",
        [
            Problem(id="clean", prompt="How old is Ann?", answer="1", verifier="math"),
            Problem(id="same", prompt="tom has 3 pens  and buys 4. How many pens?", answer="7", verifier="math"),
        ],
    )
    save_rows(data / "sft.jsonl", [Example(problem_id="quoted", prompt="Recite.", response=f"I know: {LONG} men?")])
    repeated = "tom has 3 pens and buys 4.  How many pens?"
    save_rows(
        data / "long_cot.jsonl",
        [
            Example(problem_id="fine", prompt="What?", response="That."),
            Example(problem_id="instructed", prompt=f"{repeated}\n\nThink, and end with \\boxed{{}}.", response="7"),
            Example(
                problem_id="earlier",
                history=({"role": "user", "content": repeated}, {"role": "assistant", "content": "7"}),
                prompt="Thanks.",
                response="Sure.",
            ),
        ],
    )
    written = [Example(problem_id="written", prompt=repeated, response="7")]
    save_rows(tmp_path / "expanded" / "sft.jsonl", written)
    save_rows(tmp_path / "paths" / "long_cot.jsonl", written)
    inputs = {"data": data, "expanded": tmp_path / "expanded", "paths": tmp_path / "paths"}
    context = StageContext(0, inputs, tmp_path, tmp_path, lambda metrics: None, sources={source_key("gsm8k"): source})
    settings: Any = SimpleNamespace(own=EvaluationConfig(benchmarks=(config,)), gates=shipped_suite("evaluate"))
    evaluation_gates(context, settings)
    [gate] = [gate for gate in context.gates if gate.gate == "training rows"]
    complaints = " ".join(map(str, gate.broken("warn")))
    assert "train:2:same" in complaints and "sft:1:quoted" in complaints and "gsm8k/gsm8k-2" in complaints
    assert "clean" not in complaints and "fine" not in complaints
    exact = str(gate.broken("warn")[0])
    assert "long_cot:2:instructed" in exact, "an instruction hides no problem"
    assert "long_cot:3:earlier" in exact, "nor does a later turn"
    assert "vanilla_sft.expanded:1:written" in exact and "long_cot_paths:1:written" in exact, "nor who wrote it"
    assert not gate.broken("stop")
