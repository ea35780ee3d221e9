"""The tests' side of function-call tests: runs `check(candidate)`, whose calls the program's box answers.

Never imported: the text of this file, with what it imports of this folder, is a program of the sandbox (see
steps/rewards/function_tests.py), with the files setting.json, prelude.py, setup.py and check.py beside it. Its exit
code says whether all tests passed; the last line of its standard error says how many calls there were and what was
wrong.
"""

import enum
import json
import os
import random
import sys
from types import ModuleType
from typing import Any

from steps.rewards.function_channel import Channel, NoReply
from steps.rewards.function_values import NotEncodable


def shared_classes(module: ModuleType, prelude: bool) -> dict[str, type[Any]]:
    """The classes that results may be of: all that the prelude defines, which the program has as well; of the set-up's,
    exceptions and those with nothing but data."""
    classes = {}
    for name, kind in vars(module).items():
        if not isinstance(kind, type) or kind.__module__ != module.__name__:
            continue
        data = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "_fields")
        if prelude or data or issubclass(kind, enum.Enum | Exception):
            classes[name] = kind
    return classes


def main() -> None:
    """Run the tests."""
    with open("setting.json") as file:
        setting = json.load(file)
    calls = 0
    reader, writer = sys.stdin, sys.stdout
    sys.stdout, sys.stdin = sys.stderr, open("/dev/null")  # noqa: SIM115 - tests may print and read
    classes: dict[str, type[Any]] = {}
    channel = Channel(
        *(reader, writer, "t", "tests", classes.get),
        longest=setting["longest"],
        new_token=lambda: os.urandom(16).hex(),
        in_place=setting["in_place"],
    )

    def candidate(*positional: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        return channel.call("function", positional, named)

    name = setting["entry_point"].rpartition(".")[2]
    candidate.__name__ = candidate.__qualname__ = name
    module = ModuleType("tests")
    sys.modules["tests"] = module
    random.seed(0)
    for part in ("prelude.py", "setup.py", "check.py"):
        with open(part, encoding="utf-8", errors="surrogatepass") as file:
            exec(compile(file.read(), part, "exec"), module.__dict__)  # noqa: S102 - in the box, no response's text
        if part != "check.py":
            classes |= shared_classes(module, part == "prelude.py")
        # Tests may call the function by its own name, which the set-up may have given to a stub.
        setattr(module, name, candidate)
    fault = None
    try:
        module.check(candidate)
    except (NoReply, NotEncodable):
        pass  # the channel says so, also where the tests caught it
    except Exception as error:
        if error is channel.raised:
            fault = f"exception {channel.raised_name[:40]}"
        else:
            # An assertion, or a result that the tests could not even compare.
            fault = "wrong output" if isinstance(error, AssertionError) else f"wrong output ({type(error).__name__})"
    if channel.unfit:
        # The tests' fault: there is no verdict on the program.
        print(f"call {calls} has an argument that cannot pass between the boxes: {channel.unfit}", file=sys.stderr)
        sys.exit(1)
    fault = channel.fault or fault
    if fault:
        print(json.dumps({"calls": calls, "fault": fault}), file=sys.stderr)
        sys.exit(1)


main()
