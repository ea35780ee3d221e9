"""The program's side of function-call tests: answers calls of the function with its results, as Python literals.

Never imported: the text of this file is a program of the sandbox (see steps/rewards/function_tests.py), with the files
setting.json and solution.py beside it. Nothing here decides anything, so a solution may do to it what it likes.
"""

import ast
import json
import os


def main() -> None:
    """Answer calls until there are no more."""
    with open("setting.json") as file:
        entry_point = json.load(file)["entry_point"]
    queries, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    # What a solution prints is not a result, and calls are not for it to read.
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    with open("solution.py", encoding="utf-8", errors="surrogatepass") as file:
        source = file.read()
    namespace: dict[str, object] = {"__name__": "solution"}
    exec(compile(source, "solution.py", "exec"), namespace)  # noqa: S102 - inside the box, where it belongs
    function = namespace[entry_point]
    for line in queries:
        positional, named = ast.literal_eval(line)
        try:
            answer = f"result {function(*positional, **named)!r}"  # type: ignore[operator]
        except Exception as error:
            answer = f"exception {type(error).__name__}"
        answers.write(answer.replace("\n", " ") + "\n")
        answers.flush()


main()
