"""Function tests judge right solutions right, whatever kind of value passes between the tests and the program."""

from collections.abc import Iterator

import pytest

from infra.sandbox.config import SandboxConfig, open_sandbox
from infra.sandbox.interface import Limits, Sandbox
from steps.problem import FunctionTests
from steps.rewards.function_tests import run_function_tests
from steps.rewards.output_checker import BrokenTests

LIMITS = Limits(wall_seconds=20, cpu_seconds=4)

LIST_NODE = """
from typing import *
class ListNode:
    def __init__(self, val=0, next=None): self.val, self.next = val, next
"""
POINT = """
from dataclasses import dataclass
@dataclass
class Point:
    x: int
    y: list
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    sandbox = open_sandbox(SandboxConfig(slots=2))
    yield sandbox
    sandbox.close()


def judged(
    sandbox: Sandbox,
    program: str,
    check: str,
    *,
    entry_point: str = "f",
    setup: str = "",
    prelude: str = "",
    in_place: bool = False,
) -> str | None:
    body = "\n".join(f"    {line}" for line in check.strip().splitlines())
    tests = FunctionTests(
        entry_point=entry_point,
        check=f"def check(candidate):\n{body}",
        setup=setup,
        prelude=prelude,
        in_place=in_place,
    )
    return run_function_tests(sandbox, program, tests, LIMITS)


RIGHT = {
    "an exception that the test expects": (
        "def f(x): raise ValueError('bad', [x])",
        """
try: candidate(3)
except ValueError as error: assert error.args == ("bad", [3])
else: raise AssertionError
""",
    ),
    "an argument changed in place": ("def f(x): x.sort()", "x = [3, 1]\nassert candidate(x) is None and x == [1, 3]"),
    "a nested argument changed in place": (
        "def f(x):\n    x['a'][0].append(2)\n    x['b'] = {1}",
        "inner = [1]\nx = {'a': [inner]}\ncandidate(x)\nassert inner == [1, 2] and x == {'a': [[1, 2]], 'b': {1}}",
    ),
    "an argument returned": ("def f(x): return x", "x = [1]\nassert candidate(x) is x"),
    "an argument changed and returned": (
        "def f(x):\n    x[0].sort()\n    return x",
        "x = [[2, 1]]\nassert candidate(x) == [[1, 2]]",
    ),
    "a list that holds itself": (
        "def f():\n    x = [1]\n    x.append(x)\n    return x",
        "x = candidate()\nassert x[1] is x",
    ),
    "inf and nan": (
        "def f(x): return [x, -x]",
        "from math import inf, isnan, nan\nassert candidate(inf) == [inf, -inf] and isnan(candidate(nan)[0])",
    ),
    "a function as argument": (
        "def f(key, x): return sorted(x, key=key)",
        "assert candidate(lambda x: -x, [1, 3, 2]) == [3, 2, 1] and candidate(len, ['aa', 'b']) == ['b', 'aa']",
    ),
    "a function as result": ("def f(n): return lambda x: x + n", "assert candidate(2)(3) == 5"),
    "functions that call each other": (
        "def f(g, h): return g(lambda x: h(x) + 1)",
        "assert candidate(lambda k: k(5), lambda x: 2 * x) == 11",
    ),
    "a Counter": (
        "from collections import Counter\ndef f(x): return x + Counter('b')",
        "from collections import Counter\nassert candidate(Counter('aab'))['b'] == 2",
    ),
    "a defaultdict": (
        "from collections import defaultdict\ndef f(): return defaultdict(list, {1: [2]})",
        "x = candidate()\nassert x == {1: [2]} and x[7] == []",
    ),
    "a deque": (
        "from collections import deque\ndef f(): return deque([1, 2], 5)",
        "from collections import deque\nx = candidate()\nassert x == deque([1, 2]) and x.maxlen == 5",
    ),
    "views of a dict": (
        "def f(): return {1: 2}.keys(), {1: 2}.values(), {1: 2}.items()",
        "k, v, i = candidate()\nassert k == {1} and list(v) == [2] and list(i) == [(1, 2)]",
    ),
    "a range": ("def f(): return range(1, 10**20, 3)", "assert candidate() == range(1, 10**20, 3)"),
    "a generator without end": (
        "def f(n):\n    while True:\n        yield n\n        n += 1",
        "from itertools import islice\nassert list(islice(candidate(2), 3)) == [2, 3, 4]",
    ),
    "an iterator as argument": ("def f(x): return next(x) + sum(x)", "assert candidate(iter([1, 2, 3])) == 6"),
    "a Fraction": (
        "from fractions import Fraction\ndef f(x): return x / 2",
        "from fractions import Fraction\nassert candidate(Fraction(1, 3)) == Fraction(1, 6)",
    ),
    "a Decimal": (
        "from decimal import Decimal\ndef f(): return Decimal('0.10')",
        "from decimal import Decimal\nassert str(candidate()) == '0.10'",
    ),
    "a namedtuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
        "assert candidate() == (1, 2) and candidate().y == 2",
    ),
    "complex, bytes, long integers": (
        "def f(): return 1 + 2j, b'\\xff', bytearray(b'a'), 10**6000, frozenset([(1,)]), ...",
        "assert candidate() == (1 + 2j, b'\\xff', bytearray(b'a'), 10**6000, frozenset([(1,)]), ...)",
    ),
    "pickling an own class": (
        "import pickle\nclass Q: pass\ndef f(): return type(pickle.loads(pickle.dumps(Q()))).__name__",
        "assert candidate() == 'Q'",
    ),
    "a large result": ("def f(): return list(range(200_000))", "assert candidate() == list(range(200_000))"),
    "a class Solution": (
        "class Solution:\n    def f(self, x): return x + 1",
        "assert candidate(1) == candidate(x=1) == 2",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_function_passes_with(sandbox: Sandbox, name: str) -> None:
    assert judged(sandbox, *RIGHT[name]) is None


def test_a_dataclass_with_postponed_annotations_equals_the_tests(sandbox: Sandbox) -> None:
    program = f"from __future__ import annotations\n{POINT}\ndef f(): return Point(1, [2])"
    assert judged(sandbox, program, "assert candidate() == Point(1, [2])", setup=POINT) is None
    assert judged(sandbox, program, "assert candidate().y == [2]") is None
    assert judged(sandbox, program, "assert candidate() == Point(1, [3])", setup=POINT) == "test 1: wrong output"


def test_a_method_of_leetcodes_form_takes_classes_of_the_prelude(sandbox: Sandbox) -> None:
    program = """
class Solution:
    def reverse(self, head: Optional[ListNode]) -> Optional[ListNode]:
        before = None
        while head: head.next, before, head = before, head, head.next
        return before
"""
    check = """
head = None
for n in range(2_000): head = ListNode(n, head)
head = candidate(head)
for n in range(2_000):
    assert head.val == n
    head = head.next
assert head is None
"""
    assert judged(sandbox, program, check, entry_point="Solution().reverse", prelude=LIST_NODE) is None


def test_an_own_exception_of_the_setup_can_be_expected(sandbox: Sandbox) -> None:
    mine = "class Mine(Exception): pass\n"
    check = "try: candidate(1)\nexcept Mine: return\nassert False"
    assert judged(sandbox, f"{mine}def f(x): raise Mine(x)", check, setup=mine) is None
    assert judged(sandbox, "def f(x): return x", check, setup=mine) == "test 1: wrong output"


@pytest.mark.parametrize(
    ("program", "check", "reason"),
    [
        # What changes an argument may not change what the test compares with.
        ("def f(x):\n    x.clear()\n    return 0", "x = [1, 2]\nassert candidate(x) == len(x)", "wrong output"),
        ("import os\ndef f(x): os._exit(0)", "try: candidate(1)\nexcept: pass", "no result"),
        ("def f(x): return object()", "try: candidate(1)\nexcept: pass", "result is not a plain value"),
        (
            "class All:\n    def __eq__(self, o): return True\ndef f(x): return All()",
            "assert candidate(1) == 2",
            "wrong output",
        ),
        # A class of the tests that equals everything is not one that a result can be of.
        (
            "class Approximately: pass\ndef f(x): return Approximately()",
            "assert candidate(1) == 2",
            "wrong output",
        ),
        # What a class defines cannot be replaced by what an instance holds.
        (
            f"{POINT}\ndef f(x):\n    p = Point(1, [])\n    p.norm = lambda: 5\n    return p",
            "assert candidate(1).norm() == 5",
            "wrong output",
        ),
    ],
)
def test_a_wrong_function_fails(sandbox: Sandbox, program: str, check: str, reason: str) -> None:
    setup = f"{POINT}    def norm(self): return 1\nclass Approximately:\n    def __eq__(self, other): return True\n"
    assert judged(sandbox, program, check, setup=setup) == f"test 1: {reason}"


def test_arguments_that_a_problem_says_are_changed_are_seen_beside_a_result(sandbox: Sandbox) -> None:
    program, check = "def f(x):\n    x.sort()\n    return 1", "x = [2, 1]\nassert candidate(x) == 1 and x == [1, 2]"
    assert judged(sandbox, program, check, in_place=True) is None
    assert judged(sandbox, program, check) == "test 1: wrong output"


def test_replies_written_ahead_of_their_call_are_none(sandbox: Sandbox) -> None:
    program = """
import json, os
for token in ("", "0" * 32):
    reply = json.dumps({"token": token, "values": [4], "nodes": {}}) + "\\n"
    for n in range(3, 20):
        try: os.write(n, reply.encode())
        except OSError: pass
def f(x): return -1
"""
    assert judged(sandbox, program, "assert candidate(2) == 4") == "test 1: no result"


def test_a_call_that_tells_its_token_gives_no_reply_to_the_next(sandbox: Sandbox) -> None:
    program = """
import json, os, sys
def f(x):
    frame = sys._getframe()
    while "answer" not in frame.f_locals: frame = frame.f_back
    reply = json.dumps({"token": frame.f_locals["answer"]["token"], "values": [4], "nodes": {}}) + "\\n"
    for n in range(3, 20):
        try: os.write(n, reply.encode() * 5)
        except OSError: pass
    return -1
"""
    assert judged(sandbox, program, "assert candidate(2) == 4\nassert candidate(2) == 4") == "test 2: no result"


def test_an_argument_that_cannot_pass_is_the_problems_fault(sandbox: Sandbox) -> None:
    with pytest.raises(BrokenTests, match="type lock"):
        judged(sandbox, "def f(x): return x", "import threading\ncandidate(threading.Lock())")
