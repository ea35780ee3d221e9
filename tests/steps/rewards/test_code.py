"""Programs against tests, in real boxes."""

import pytest

from infra.sandbox import BubblewrapSandbox, Limits, Result
from steps.problem import Problem
from steps.rewards.code import CodeVerifier
from steps.rewards.score import python_program

DOUBLE = Problem(id="double", prompt="Print twice x.", verifier="code", tests=(("1\n", "2\n"), ("21\n", "42\n")))
LIMITS = Limits(wall_seconds=2, cpu_seconds=1, output_bytes=10_000)


class CountingSandbox(BubblewrapSandbox):
    """A real sandbox that counts its runs, and keeps what went in."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        super().__init__()
        self.seen.clear()

    def run(self, program: str, stdin: str = "", limits: Limits = LIMITS) -> Result:
        self.seen.append((program, stdin))
        return super().run(program, stdin, limits)


@pytest.fixture
def sandbox() -> CountingSandbox:
    return CountingSandbox()


def block(program: str) -> str:
    return f"<think>easy</think>\n```python\n{program}\n```\n"


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\nprint(1)\n```", "print(1)\n"),
        ("a\n```python\nprint(1)\n```\nb\n```Python3\nprint(2)\n```\nc", "print(2)\n"),
        ("```python\nprint(1)\n```\n```\nsome output\n```", "print(1)\n"),
        ("```python\nprint(1)\n```\n```bash\nls\n```", "print(1)\n"),
        ("```text\n```python\n```\n", None),
        ("<think>\n```python\nprint(1)\n```\n</think>\n", None),
        ("<think>\n```python\nprint(1)\n```\n", None),
        ("<think>\n```python\nprint(1)\n```</think>\n```python\nprint(2)\n```", "print(2)\n"),
        ("```python\nprint(1)\n```\n```python\nprint(2)", "print(1)\n"),
        ("```python\nprint(1)", None),
        ("```python\r\nprint(1)\r\n```\r\n", "print(1)\r\n"),
        ("```python\nprint('\f')\n```", "print('\f')\n"),
        ("print(1)", None),
        ("", None),
        ("```python\n" * 50_000, None),
    ],
)
def test_the_program_is_the_last_closed_python_block_after_the_thinking(response: str, program: str | None) -> None:
    assert python_program(response) == program


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(2 * int(input()))", "right"),
        ("print(2 * int(input()), end='  \\n\\n')", "right"),
        ("print(int(input()) + 1)", "test 2: wrong output"),
        ("print('The answer is', 2 * int(input()))", "test 1: wrong output"),
        ("print(' ', 2 * int(input()))", "test 1: wrong output"),
        ("pass", "test 1: wrong output"),
        ("x = int(input())\nprint(2 * x)\nassert x < 20", "test 2: exit code 1"),
        ("print(2 * int(input()))\nexit(7)", "test 1: exit code 7"),
        ("print(2 * int(input())", "test 1: exit code 1"),
        ("x = int(input())\nwhile x > 20: pass\nprint(2 * x)", "test 2: time"),
        ("x = 'x' * 10**10", "test 1: memory"),
        ("while True: print(2)", "test 1: output"),
        ("import os\nprint(2, flush=True)\nos.kill(os.getpid(), 9)", "test 1: signal"),
    ],
)
def test_the_verdict_names_the_first_failing_test_and_why(sandbox: CountingSandbox, program: str, reason: str) -> None:
    verdict = CodeVerifier(sandbox, LIMITS).judge(DOUBLE, block(program))
    assert (verdict.reason, verdict.right) == (reason, reason == "right")


def test_a_response_without_a_program_runs_nothing(sandbox: CountingSandbox) -> None:
    assert CodeVerifier(sandbox, LIMITS).judge(DOUBLE, "<think>hm</think> print(2)").reason == "no program"
    assert not sandbox.seen


def test_tests_after_the_first_failure_do_not_run(sandbox: CountingSandbox) -> None:
    CodeVerifier(sandbox, LIMITS).judge(DOUBLE, block("print('no')"))
    assert len(sandbox.seen) == 1


def test_expected_outputs_never_enter_the_box(sandbox: CountingSandbox) -> None:
    CodeVerifier(sandbox, LIMITS).judge(DOUBLE, block("print(2 * int(input()))"))
    assert sandbox.seen == [("print(2 * int(input()))\n", "1\n"), ("print(2 * int(input()))\n", "21\n")]


def test_the_same_program_on_the_same_tests_runs_once(sandbox: CountingSandbox) -> None:
    verifier = CodeVerifier(sandbox, LIMITS)
    response = block("print(2 * int(input()))")
    assert verifier.judge(DOUBLE, response) == verifier.judge(DOUBLE, "Again.\n" + response)
    assert len(sandbox.seen) == 2
    other = DOUBLE.model_copy(update={"tests": (("1\n", "3\n"),)})
    assert verifier.judge(other, response).reason == "test 1: wrong output"
