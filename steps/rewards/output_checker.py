"""Problems whose checker decides whether an output is right: those with several right outputs.

The checker is a Python program of the problem. It runs in a box of its own, after the response's program has ended,
with the files input.txt, output.txt (what the response printed) and answer.txt (the expected output) in its folder, and
ends with exit code 0 for a right output or 1 for a wrong one.
"""

from infra.sandbox.interface import Limits, Result, Sandbox


class BrokenTests(ValueError):
    """A problem's test code fails by itself, whatever the program does."""


def checked_fault(sandbox: Sandbox, checker: str, limits: Limits, stdin: str, output: str, expected: str) -> str | None:
    """What is wrong with an output, by the problem's checker; None where nothing is.

    A checker that crashes or runs too long on an output calls it wrong, provided that it accepts the expected output.
    Raises SandboxUnavailable, and BrokenTests where it does not.
    """
    result = _run(sandbox, checker, limits, stdin, output, expected)
    if _accepts(result):
        return None
    if result.ended == "finished" and result.exit_code == 1 and "Traceback" not in result.stderr:
        return "wrong output"
    trial = _run(sandbox, checker, limits, stdin, expected, expected)
    if not _accepts(trial):
        why = trial.stderr.strip()[-300:] or f"{trial.ended}, exit code {trial.exit_code}"
        raise BrokenTests(f"the checker does not accept the expected output: {why}")
    return "wrong output (the checker cannot read it)"


def _run(sandbox: Sandbox, checker: str, limits: Limits, stdin: str, output: str, expected: str) -> Result:
    texts = {"input.txt": stdin, "output.txt": output, "answer.txt": expected}
    files = {name: text.encode("utf-8", "surrogatepass") for name, text in texts.items()}
    return sandbox.run(checker, "", limits, files=files)


def _accepts(result: Result) -> bool:
    return result.ended == "finished" and result.exit_code == 0
