"""Programs against tests, in real boxes."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits, Result, Sandbox
from steps.problem import FunctionTests, Problem
from steps.rewards.code import CodeVerifier
from steps.rewards.output_checker import BrokenTests
from steps.rewards.score import python_program
from steps.source_rows import problems_of

DOUBLE = Problem(id="double", prompt="Print twice x.", verifier="code", tests=(("1\n", "2\n"), ("21\n", "42\n")))
LIMITS = Limits(wall_seconds=2, cpu_seconds=1, output_bytes=10_000)


class CountingSandbox:
    """A real sandbox that keeps what went in."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.seen: list[tuple[str, str]] = []
        self.texts: list[str] = []

    def run(self, program: str, stdin: str = "", *rest: Any, **named: Any) -> Result:
        raise AssertionError("each test of a program runs in the same box")

    def run_each(self, program: str, stdins: Iterable[str], *rest: Any, **named: Any) -> Generator[Result, None, None]:
        def recorded() -> Iterator[str]:
            for stdin in stdins:
                self.seen.append((program, stdin))
                yield stdin

        yield from self.sandbox.run_each(program, recorded(), *rest, **named)

    def run_joined(
        self,
        first: str,
        second: str,
        *rest: Any,
        second_files: Mapping[str, bytes] = MappingProxyType({}),
        **named: Any,
    ) -> tuple[Result, Result]:
        self.texts += [second, *(content.decode() for content in second_files.values())]
        return self.sandbox.run_joined(first, second, *rest, second_files=second_files, **named)

    def close(self) -> None:
        self.sandbox.close()


@pytest.fixture(scope="module")
def real() -> Iterator[Sandbox]:
    sandbox = open_sandbox(SandboxConfig(slots=2))
    yield sandbox
    sandbox.close()


@pytest.fixture
def sandbox(real: Sandbox) -> CountingSandbox:
    return CountingSandbox(real)


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


SQUARE = Problem(
    id="square",
    prompt="Define square(x).",
    verifier="code",
    function=FunctionTests(
        entry_point="square",
        setup="LARGEST = 12",
        check="""
def check(candidate):
    for x in range(LARGEST):
        assert candidate(x) == x * x, "secret"
    assert candidate([1, (2, 3)]) == {"a": [1, (2, 3)], "b": {None, True}}
""",
    ),
)
RIGHT = "def square(x):\n    return x * x if isinstance(x, int) else {'b': {True, None}, 'a': x}"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (RIGHT, "right"),
        (f"print('noise')\n{RIGHT}\nprint('more')", "right"),
        (RIGHT.replace("x * x", "2 * x"), "test 2: wrong output"),
        ("def square(x): return x ** 2 if x != 7 else 0", "test 8: wrong output"),
        ("def square(x): return str(x * x)", "test 1: wrong output"),
        ("def square(x): return None", "test 1: wrong output"),
        ("def square(x): raise ValueError(x)", "test 1: exception ValueError"),
        ("def other(x): return x", "test 1: exit code 1"),
        ("def square(x) return x", "test 1: exit code 1"),
        ("import os\ndef square(x): os._exit(0)", "test 1: no result"),
        ("import sys\ndef square(x): sys.exit(0)", "test 1: no result"),
        ("import os\ndef square(x): os.kill(os.getpid(), 9)", "test 1: signal"),
        ("def square(x):\n    while True: pass", "test 1: time"),
        ("def square(x): return 'x' * 10**7", "test 1: result too long"),
        ("def square(x): return object()", "test 1: result is not a plain value"),
        ("def square(x): return (lambda: x)", "test 1: wrong output"),
    ],
)
def test_a_function_is_right_by_its_results_alone(sandbox: CountingSandbox, program: str, reason: str) -> None:
    verdict = CodeVerifier(sandbox, LIMITS).judge(SQUARE, block(program))
    assert (verdict.reason, verdict.right) == (reason, reason == "right")


FAKES = {
    "a number that equals everything": """
class Same(int):
    def __eq__(self, other): return True
def square(x): return Same(-1)
""",
    "an object that equals everything": """
class Any:
    def __eq__(self, other): return True
def square(x): return Any()
""",
    "a result that is code": """
class Lie:
    def __repr__(self): return "__import__('os')._exit(0)"
def square(x): return Lie()
""",
    "assertions that are something else": """
import builtins
builtins.AssertionError = ZeroDivisionError
def square(x): return -1
""",
    "a test of its own": """
def check(candidate): pass
def square(x): return -1
""",
    "an exit code of its own": """
import atexit, os
atexit.register(lambda: os._exit(0))
def square(x): return -1
""",
    "exit, print and comparisons redefined": """
import builtins, sys, operator
builtins.print = builtins.exit = sys.exit = os_exit = lambda *a, **k: None
operator.eq = lambda a, b: True
def square(x): return -1
""",
    "a search of the memory": """
import gc
def square(x): return [o for o in gc.get_objects() if "secret" in str(o)][:1] or -1
""",
    "a search of the frames": """
import sys
def square(x):
    frame = sys._getframe()
    while frame.f_back: frame = frame.f_back
    return frame.f_globals.get("expected", -1)
""",
    "results ahead of their time": """
import os
def square(x):
    os.write(1, b"result 0\\n" * 99)
    return -1
""",
    "results on every descriptor": """
import os
for n in range(3, 20):
    try: os.write(n, b"result 144\\n" * 99)
    except OSError: pass
def square(x): return -1
""",
}


@pytest.mark.parametrize("name", FAKES)
def test_a_pass_cannot_be_faked(sandbox: CountingSandbox, name: str) -> None:
    verdict = CodeVerifier(sandbox, LIMITS).judge(SQUARE, block(FAKES[name]))
    assert not verdict.right and verdict.reason.startswith("test 1"), verdict


def test_the_tests_of_a_function_never_enter_the_programs_box(sandbox: CountingSandbox) -> None:
    assert CodeVerifier(sandbox, LIMITS).judge(SQUARE, block(RIGHT)).right
    assert sandbox.texts and not any("secret" in text or "check(" in text for text in sandbox.texts[1:])


def test_test_code_that_fails_by_itself_is_not_a_verdict_on_the_program(sandbox: CountingSandbox) -> None:
    function = FunctionTests(entry_point="f", check="def check(candidate)\n    pass")
    problem = Problem(id="broken", prompt="?", verifier="code", function=function)
    with pytest.raises(BrokenTests, match="problem 'broken'"):
        CodeVerifier(sandbox, LIMITS).judge(problem, block("def f(): pass"))


HUMANEVAL = Path(__file__).parents[4] / "shared/data/humaneval/HumanEval.jsonl.gz"


@pytest.mark.skipif(not HUMANEVAL.exists(), reason="HumanEval is not beside the project")
def test_all_reference_solutions_of_humaneval_pass_and_none_that_returns_nothing(real: Sandbox) -> None:
    problems = problems_of(HUMANEVAL, "humaneval")
    verifier = CodeVerifier(real)
    with ThreadPoolExecutor(2) as threads:
        right = list(threads.map(lambda p: verifier.judge(p, p.solution or ""), problems))
        empty = [f"{p.function.setup}    return None" for p in problems if p.function]
        wrong = list(threads.map(lambda p, e: verifier.judge(p, block(e)), problems, empty))
    assert len(problems) == 164
    assert {p.id: v.reason for p, v in zip(problems, right, strict=True) if not v.right} == {}
    assert {p.id: v.reason for p, v in zip(problems, wrong, strict=True) if v.right} == {}
