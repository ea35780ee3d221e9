"""The program's side of function-call tests: answers calls of the function with its results.

Never imported: the text of this file, with what it imports of this folder, is a program of the sandbox (see
steps/rewards/function_tests.py), with the files setting.json, prelude.py and solution.py beside it. Nothing here
decides anything, so a solution may do to it what it likes.
"""

import json
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from steps.rewards.function_channel import Channel


def find(module: ModuleType, entry_point: str) -> Callable[..., Any]:
    """The function to call: a name, or `Class().method`, of which each call has a new instance; a function that the
    program does not define by itself is looked for in its class Solution."""
    owner, _, name = entry_point.rpartition(".")
    if not owner and not hasattr(module, name) and hasattr(module, "Solution"):
        owner = "Solution()"
    if not owner:
        return getattr(module, name)
    holder = getattr(module, owner.removesuffix("()"))
    getattr(holder, name)  # without it, no call could be answered
    if not owner.endswith("()"):
        return getattr(holder, name)
    return lambda *positional, **named: getattr(holder(), name)(*positional, **named)


def main() -> None:
    """Answer calls until there are no more."""
    with open("setting.json") as file:
        entry_point = json.load(file)["entry_point"]
    reader, writer = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    # What a solution prints is not a result, and calls are not for it to read.
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    module = ModuleType("solution")
    # Where dataclasses and pickle look for it.
    sys.modules["solution"] = module
    for name in ("prelude.py", "solution.py"):
        with open(name, encoding="utf-8", errors="surrogatepass") as file:
            source = file.read()
        exec(compile(source, name, "exec"), module.__dict__)  # noqa: S102 - inside the box, where it belongs

    def find_class(name: str) -> type[Any] | None:
        known = getattr(module, name, None)
        return known if isinstance(known, type) else None

    channel = Channel(reader, writer, "p", "solution", find_class)
    channel.offer(find(module, entry_point), "function")
    channel.serve()


main()
