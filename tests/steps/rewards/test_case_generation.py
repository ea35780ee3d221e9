"""Test cases made for problems that have none, in real boxes."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from flows.cli.main import main
from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Sandbox
from steps.configs.case_generation import CaseGenerationConfig, GeneratorConfig
from steps.problem import MalformedRow, load_problems, save_rows
from steps.rewards.case_generation import make_test_cases
from steps.rewards.case_outcomes import Funnel, Outcome, funnel, kept_problems
from steps.rewards.case_problems import CaseProblem, Submission, load_case_problems, needs_special_judge
from steps.rewards.code import CodeVerifier
from steps.rewards.generators import write_generators
from tests.steps.scripted import scripted_bench

EXAMPLES = Path(__file__).parents[3] / "examples" / "test_cases"
SLOTS = 2
FEW = CaseGenerationConfig(cases=6, submissions=3, agreeing=2, passing=3, valid=4, cpu_seconds=1, wall_seconds=3)

DOUBLE = ["print(2 * int(input()))", "x = int(input())\nprint(x + x)", "print(int(input()) << 1)"]
GENERATOR = """\
import random
from cyaron import randint
case, seed = map(int, input().split())
random.seed(seed)
print(randint(0, 10**9))
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = open_sandbox(SandboxConfig(slots=SLOTS))
    yield opened
    opened.close()


def double(generator: str | None = GENERATOR, programs: Sequence[str] = DOUBLE, **fields: object) -> CaseProblem:
    row = {"id": "double", "prompt": "Print twice x.", "generator": generator, "submissions": programs, **fields}
    return CaseProblem.model_validate(row)


def outcome_of(problem: CaseProblem, sandbox: Sandbox, config: CaseGenerationConfig = FEW) -> Outcome:
    return make_test_cases([problem], config, sandbox, SLOTS)[0]


@pytest.mark.parametrize(
    ("numbers", "keys"),
    [
        ({"agreeing": 11}, ("agreeing is 11", "submissions (10)")),
        ({"agreeing": 5}, ("agreeing is 5", "submissions (10)")),
        ({"passing": 11}, ("passing is 11", "submissions (10)")),
        ({"valid": 51}, ("valid is 51", "cases (50)")),
        ({"valid": 3, "different_outputs": 4}, ("different_outputs is 4", "valid (3)")),
        ({"cases": 0}, ("cases",)),
        ({"wall_seconds": 0}, ("wall_seconds",)),
        ({"case": 50}, ("case",)),
    ],
)
def test_numbers_that_no_problem_could_meet_are_refused_by_name(numbers: dict[str, int], keys: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        CaseGenerationConfig.model_validate(numbers)
    assert all(key in str(refused.value) for key in keys)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("If there are multiple answers, print any of them.", "any answer"),
        ("If there are several such pairs,\nyou may output any one.", "any answer"),
        ("Any valid permutation will be accepted.", "any answer"),
        ("If there is more than one solution, choose any.", "any answer"),
        ("When many optimal ways exist, you can use any.", "any answer"),
        ("Find any path from a to b, and print its vertices.", "any answer"),
        ("Print the numbers in any order.", "any order"),
        (
            "Output all the divisors of n, one on each line, in an arbitrary order.",
            "any order",
        ),
        ("The answer is right if its absolute or relative error is at most 0.000001.", "tolerance"),
        ("Print the length with a precision of 10^{-6}.", "tolerance"),
        ("Your answer may differ from ours by up to 1e-9.", "tolerance"),
        ("This is an interactive problem.", "interactive"),
        ("Do not forget to flush the output after each question.", "interactive"),
        ("If there are multiple answers, print the smallest one.", None),
        ("If there are several longest words, print the one that comes first in the alphabet.", None),
        ("Do not print any spaces after the last number.", None),
        ("Don't output any extra text.", None),
        ("Tom may choose any of the cells. Print in how many ways he can move to any other.", None),
        ("The friends arrive in any order. Print the number of orders.", None),
        ("Print the mean, rounded to 6 digits after the point.", None),
        ("There are many ways to climb stairs. Print their number.", None),
        ("The machine makes an error in any step. Print the number of errors, at most 10.", None),
        ("Print the integers from 0 to 10^9 that divide n, in rising order.", None),
    ],
)
def test_wording_tells_whether_text_can_judge(statement: str, kind: str | None) -> None:
    assert needs_special_judge(double(prompt=statement)) == kind


def test_what_the_data_set_says_comes_before_the_wording() -> None:
    statement = "If there are multiple answers, print any."
    assert needs_special_judge(double(prompt=statement, special_judge=False)) is None
    assert needs_special_judge(double(special_judge=True)) == "the data set says so"


def test_a_row_that_cannot_be_read_is_refused_by_file_and_reason(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "prompt": "?"}\n{"id": "a", "prompt": "!"}\n')
    with pytest.raises(MalformedRow, match=r"rows.jsonl:2: id 'a' occurs twice"):
        load_case_problems(rows)
    (tmp_path / "b.yaml").write_text("id: b\ntests: []\n")
    with pytest.raises(MalformedRow, match=r"b.yaml: prompt: Field required; tests: Extra inputs"):
        load_case_problems(tmp_path)


DROPPED = {
    "pair-with-sum": ("given", "needs a special judge: any answer"),
    "local-peak": ("given", "needs a special judge: the data set says so"),
    "dice-sums": ("no special judge", "the same as one before"),
    "rounded-mean": ("no special judge", "0 of 12 cases are valid; 10 are needed"),
    "sorted-row": ("no special judge", "it does not depend on the seed alone"),
    "fence-posts": ("enough valid cases", "8 of 10 submissions pass all valid cases; 9 are needed"),
    "odd-or-even": ("enough valid cases", "its valid cases have 1 different outputs; 2 are needed"),
}


def test_the_right_examples_are_retained_and_their_tests_catch_more_than_a_sample(
    sandbox: Sandbox,
) -> None:
    problems = load_case_problems(EXAMPLES)
    config = CaseGenerationConfig(cases=12, valid=10, cpu_seconds=1)
    outcomes = make_test_cases(problems, config, sandbox, SLOTS)
    left_out = {one.id: one for one in outcomes if one.reached != "kept"}
    assert left_out.keys() == DROPPED.keys()
    for problem_id, (reached, reason) in DROPPED.items():
        assert left_out[problem_id].reached == reached
        assert reason in left_out[problem_id].reason
    wrong = sum(len(problem.wrong) for problem in problems)
    assert wrong >= 50
    assert funnel(outcomes) == Funnel(
        problems=28,
        no_special_judge=26,
        enough_valid_cases=23,
        retained=21,
        wrong=wrong,
        caught=wrong,
        caught_by_sample=0,
    )
    retained = kept_problems(problems, outcomes)
    assert all(len(problem.tests) >= 10 and len(set(problem.tests)) == len(problem.tests) for problem in retained)

    verifier = CodeVerifier(sandbox)
    by_id = {problem.id: problem for problem in problems}
    for problem in retained[:3]:
        right, wrong_one = by_id[problem.id].submissions[0], by_id[problem.id].wrong[0]
        assert verifier.judge(problem, f"```python\n{right.program}```").right
        assert not verifier.judge(problem, f"```python\n{wrong_one.program}```").right


@pytest.mark.parametrize(
    ("generator", "reason"),
    [
        ("print('1' * 10**6)", "3 × output"),
        ("import time\ntime.sleep(60)", "3 × time"),
        ("while True: pass", "3 × time"),
        ("print(input())\nexit(3)", "3 × exit code 3"),
        ("pass", "3 × nothing printed"),
        ("print(7, end=' ' * int(input()[0]))", "after 4 of 6: 3 × the same as one before"),
        ("case = int(input().split()[0])\nassert case > 3\nprint(case)", "3 × exit code 1"),
        ("import os\nprint(os.urandom(8).hex())", "it does not depend on the seed alone"),
        # What a case leaves behind is gone when the next is made.
        ("import os\nopen('made', 'a').write('x')\nprint(os.path.getsize('made'))", "the same as one before"),
    ],
)
def test_a_generator_that_makes_no_cases_drops_out_with_its_reason(
    sandbox: Sandbox, generator: str, reason: str
) -> None:
    config = FEW.model_copy(update={"wall_seconds": 1.5})
    outcome = outcome_of(double(generator), sandbox, config)
    assert outcome.reached == "no special judge"
    assert outcome.reason.startswith("generator: ") and reason in outcome.reason
    assert not outcome.tests


def test_a_generator_that_makes_fewer_cases_will_do_if_they_are_enough(sandbox: Sandbox) -> None:
    generator = "case, seed = map(int, input().split())\nassert case not in (2, 5)\nprint(case)"
    outcome = outcome_of(double(generator), sandbox)
    assert outcome.tests == tuple((f"{x}\n", f"{2 * x}\n") for x in (1, 3, 4, 6))


@pytest.mark.parametrize(("agreeing", "reached"), [(6, "no special judge"), (7, "enough valid cases")])
def test_a_case_is_valid_if_seven_of_ten_agree(sandbox: Sandbox, agreeing: int, reached: str) -> None:
    right = [f"print({10 + i} * 0 + 2 * int(input()))" for i in range(agreeing)]
    # The others fail in three ways, and what a failed run printed does not count.
    others = ["print('{}')", "print(2 * int(input()))\nexit({})", "print(2 * int(input()))\n1 / 0  # {}"]
    programs = [*right, *(others[i % 3].format(i + 1) for i in range(10 - agreeing))]
    outcome = outcome_of(double(programs=programs), sandbox, CaseGenerationConfig(cases=4, valid=4))
    assert outcome.reached == reached
    valid = agreeing == 7
    assert len(outcome.tests) == 4 * valid
    if valid:
        faults = ("test 1: wrong output", "test 1: exit code 2", "test 1: exit code 1")
        assert outcome.submissions == ("right",) * 7 + faults


def test_a_submission_that_hangs_is_not_run_on_all_cases(sandbox: Sandbox) -> None:
    config = FEW.model_copy(update={"passing": 2, "timeouts": 2, "wall_seconds": 1.0})
    start = time.monotonic()
    outcome = outcome_of(double(programs=[*DOUBLE[:2], "import time\ntime.sleep(60)"]), sandbox, config)
    assert outcome.reached == "kept"
    assert outcome.submissions == ("right", "right", "test 1: time")
    assert time.monotonic() - start < 6 * 1.0 + 2


def test_a_program_that_is_there_twice_counts_once(sandbox: Sandbox) -> None:
    outcome = outcome_of(double(programs=[*DOUBLE[:2], DOUBLE[0]]), sandbox)
    assert outcome.reason == "2 different submissions; 3 are needed"


def test_the_same_seed_makes_the_same_tests_and_another_seed_others(sandbox: Sandbox) -> None:
    first = outcome_of(double(), sandbox)
    (again,) = make_test_cases([double()], FEW, sandbox, slots=1)
    other = outcome_of(double(), sandbox, FEW.model_copy(update={"seed": 1}))
    assert first == again
    assert first.reached == other.reached == "kept"
    assert not set(first.tests) & set(other.tests)


class NoSandbox:
    """Fails the test when something runs in it."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was called")


def test_interrupted_work_resumes_with_the_problem_at_which_it_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    problems = [double(), double("pass", id="broken")]
    outcomes = make_test_cases(problems, FEW, sandbox, SLOTS, journal=journal)
    assert [one.reached for one in outcomes] == ["kept", "no special judge"]
    nothing: Sandbox = NoSandbox()  # type: ignore[assignment]
    assert make_test_cases(problems, FEW, nothing, SLOTS, journal=journal) == outcomes

    lines = journal.read_bytes()
    journal.write_bytes(lines[:-20])  # as if it had been killed while it wrote the last
    with pytest.raises(AssertionError, match="run was called"):
        make_test_cases(problems, FEW, nothing, SLOTS, journal=journal)
    assert make_test_cases(problems, FEW, sandbox, SLOTS, journal=journal) == outcomes
    assert make_test_cases(problems, FEW, nothing, SLOTS, journal=journal) == outcomes
    with pytest.raises(AssertionError, match="run was called"):
        make_test_cases(problems, FEW.model_copy(update={"seed": 1}), nothing, SLOTS, journal=journal)


SHORT = GeneratorConfig(prompt="Start with {cases}. {statement}", max_response_tokens=200)


def test_the_models_generator_is_taken_out_of_its_response_and_makes_the_cases(sandbox: Sandbox, base: Path) -> None:
    special = double(None, prompt="Print any x.", id="special")
    response = f"<think>x is any integer.</think>\n```python\n{GENERATOR}```\n"
    with scripted_bench(base, lambda prompt, turn: response) as (bench, _, _):
        written = write_generators(bench, [double(None), special], FEW.cases, SHORT)
    assert [problem.generator for problem in written.problems] == [GENERATOR, None]
    assert written.missing == {}
    assert [one.reached for one in make_test_cases(written.problems, FEW, sandbox, SLOTS)] == ["kept", "given"]


def test_a_problem_for_which_the_model_writes_no_generator_drops_out_with_the_reason(
    sandbox: Sandbox, base: Path
) -> None:
    with scripted_bench(base, lambda prompt, turn: "I cannot say.") as (bench, engine, _):
        written = write_generators(bench, [double(None)], FEW.cases, SHORT)
        too_long = write_generators(bench, [double(None)], FEW.cases, GeneratorConfig(max_response_tokens=200))
    (outcome,) = make_test_cases(written.problems, FEW, sandbox, SLOTS, written.missing)
    assert (outcome.reached, outcome.reason) == ("no special judge", "the model wrote no program")
    assert "tokens, and the model has room for 312" in too_long.missing["double"]
    assert len(engine.requests) == 1, "a prompt that is too long was sent"


def test_the_command_writes_the_kept_problems_and_says_why_the_others_are_left_out(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "made" / "problems.jsonl"
    wrong = (Submission(program="print(2)"),)
    problems = [double(wrong=wrong, sample=("1\n", "2\n")), double(None, id="[red]none\x1b[31m")]
    save_rows(rows, problems)
    small = [f"--set={key}={getattr(FEW, key)}" for key in ("submissions", "agreeing", "passing", "cases", "valid")]
    command = ["test-cases", str(rows), "--out", str(out), "--slots", "2"]
    result = CliRunner().invoke(main, [*command, *small])
    assert result.exit_code == 0, result.output
    assert "no generator" in result.output and "[red]none" in result.output and "\x1b[31m" not in result.output
    assert "of 1 wrong submissions" in result.output
    (made,) = load_problems(out)
    assert made.id == "double" and len(made.tests) == 6
    assert [path.name for path in out.parent.iterdir()] == [out.name]

    result = CliRunner().invoke(main, [*command, *small, "--json"])
    said = json.loads(result.stdout)
    assert (said["problems"], said["retained"], said["caught"], said["caught_by_sample"]) == (2, 1, 1, 0)
    assert said["outcomes"][1]["reason"] == "no generator"

    out.unlink()
    save_rows(rows, problems[1:])
    result = CliRunner().invoke(main, [*command, *small])
    assert result.exit_code == 1 and "no problem is left" in result.output and not out.exists()
    result = CliRunner().invoke(main, [*command, "--set", "agreeing=3"])
    assert result.exit_code == 1 and "agreeing is 3" in result.output
