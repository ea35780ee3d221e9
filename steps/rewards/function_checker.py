"""The tests' side of function-call tests: runs `check(candidate)`, whose calls the program's box answers.

Never imported: the text of this file is a program of the sandbox (see steps/rewards/function_tests.py), with the files
setting.json, setup.py and check.py beside it. Its exit code says whether all tests passed; the last line of its
standard error says how many calls there were and what was wrong.
"""

import ast
import json
import random
import sys


class NoResult(Exception):
    """The program gave no usable result; the reason is its argument."""


def main() -> None:
    """Run the tests."""
    with open("setting.json") as file:
        setting = json.load(file)
    calls = 0
    queries, answers = sys.stdout, sys.stdin
    sys.stdout, sys.stdin = sys.stderr, open("/dev/null")  # noqa: SIM115 - tests may print and read

    def candidate(*positional: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        try:
            queries.write(repr((positional, named)) + "\n")
            queries.flush()
            answer = answers.readline(setting["longest"])
        except (BrokenPipeError, UnicodeDecodeError):
            raise NoResult("gone") from None
        if not answer.endswith("\n"):
            raise NoResult("result too long" if answer else "gone")
        kind, _, text = answer.rstrip("\n").partition(" ")
        if kind != "result":
            raise NoResult(f"exception {text[:40]}" if kind == "exception" and text.isidentifier() else "no result")
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            raise NoResult("result is not a plain value") from None

    namespace: dict[str, object] = {"__name__": "tests"}
    random.seed(0)
    for name in ("setup.py", "check.py"):
        with open(name) as file:
            exec(compile(file.read(), name, "exec"), namespace)  # noqa: S102 - inside the box, and no response's text
        # Tests may call the function by its own name, which the set-up may have given to a stub.
        namespace[setting["entry_point"]] = candidate
    try:
        namespace["check"](candidate)  # type: ignore[operator]
    except NoResult as error:
        fault = str(error)
    except Exception as error:
        # An assertion, or a result that the tests could not even compare.
        fault = "wrong output" if isinstance(error, AssertionError) else f"wrong output ({type(error).__name__})"
    else:
        return
    print(json.dumps({"calls": calls, "fault": fault}), file=sys.stderr)
    sys.exit(1)


main()
