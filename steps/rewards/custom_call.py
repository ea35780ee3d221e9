"""Calls a user's reward function: JSON lines in, JSON lines out. The standard library alone.

    python -P -m steps.rewards.custom_call

It runs in a process that CustomReward kills, and with `untrusted` as the program of a box, which has no project to
import from. The first line has the function's source and name; it is answered, too.
"""

import json
import os
import random
import resource
import signal
import sys
import types
from collections.abc import Callable
from numbers import Real
from typing import Any

Reply = dict[str, Any]

DETAIL_CHARACTERS = 300

LONGEST_START = 300
"""Seconds in which the function is loaded, more than the other end waits."""


def load(source: str, file: str, function: str) -> Callable[..., Any]:
    """The function, from a module of its own. Raises whatever the source raises, and LookupError where it has none."""
    module = types.ModuleType("custom_reward")
    module.__file__ = file
    sys.modules["custom_reward"] = module  # dataclasses and pickles look their module up
    exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102 - it is what the recipe names
    loaded = getattr(module, function, None)
    if not callable(loaded):
        raise LookupError(f"it has no function {function!r}")
    result: Callable[..., Any] = loaded
    return result


def call(function: Callable[..., Any], request: dict[str, Any]) -> Reply:
    """`{"value": 0 to 1}`, or `{"fault": a few words, "detail": text}` where the function gives no such number."""
    random.seed(0)  # a function that draws must not depend on what was judged before
    try:
        value = function(request["prompt"], request["response"], request["answer"], request["problem"])
        if not isinstance(value, Real) and type(value).__name__ not in ("bool", "bool_"):
            return {"fault": "returned no number", "detail": type(value).__name__}
        number = float(value)
    except BaseException as error:  # SystemExit, too: one response must not end the process
        return {"fault": f"raised {type(error).__name__[:40]}", "detail": described(error)}
    if number != number:
        return {"fault": "returned nan", "detail": ""}
    if not 0 <= number <= 1:
        return {"fault": "returned a number outside 0 to 1", "detail": repr(number)}
    return {"value": number}


def described(error: BaseException) -> str:
    """An error with the line of the user's file that raised it."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == "custom_reward":
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    try:
        text = " ".join(str(error).split())[:DETAIL_CHARACTERS]
    except Exception:  # its own __str__ may raise
        text = ""
    return f"{type(error).__name__}: {text}" + (f" (line {lines[-1]})" if lines else "")


def main() -> None:
    """Answer requests until the input ends. What the function prints goes nowhere, so that it answers for nobody."""
    requests, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)

    def answer(reply: Reply, token: str) -> None:
        # A newline first: what a program has written without one must not be part of the line.
        answers.write("\n" + json.dumps({**reply, "token": token}) + "\n")
        answers.flush()

    begin = json.loads(requests.readline())
    if begin["memory_mb"]:
        memory = begin["memory_mb"] * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    folder = os.getcwd()
    # The other end kills it sooner; this is for the case that the other end was killed itself.
    signal.setitimer(signal.ITIMER_REAL, LONGEST_START)
    try:
        function = load(begin["source"], begin["file"], begin["function"])
    except BaseException as error:
        answer({"fault": "cannot be loaded", "detail": described(error)}, begin["token"])
        return
    answer({"value": 1.0}, begin["token"])
    signal.setitimer(signal.ITIMER_REAL, 0)
    for line in requests:
        os.chdir(folder)
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, 2 * begin["seconds"] + 60)
        reply = call(function, request)
        signal.setitimer(signal.ITIMER_REAL, 0)  # or it would end while it waits for the next response
        answer(reply, request["token"])


if __name__ == "__main__":
    main()
