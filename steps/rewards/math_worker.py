"""One process that compares formulas with math-verify: JSON lines in, JSON lines out.

    python -m steps.rewards.math_worker

A computer-algebra system can be made to compute for ever or to fill the memory by a short answer (`9^{9^{9^9}}`).
So it works here, under a memory limit, and a timer kills the whole process when one comparison has used its CPU
seconds. CPU and not wall seconds, so that a busy machine does not change a verdict; math-verify's own time limits
raise outside a main thread, and are off. MathPool is the other end.
"""

import functools
import json
import logging
import resource
import signal
import sys
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify
from sympy import Expr, Rational

from steps.rewards.math_pool import Comparison

MEMORY_BYTES = 2 * 2**30
DECIMALS = 12
"""Decimal places in which a number and a formula must agree: more than a rounded guess gives."""


@functools.lru_cache(1000)
def _parsed(text: str) -> list[Any]:
    """A formula as math-verify reads it; a group's responses share their reference."""
    return list(parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None))


def _differ_somewhere(reference: Any, answer: Any) -> bool:
    """Whether two expressions in the same variables have different values at one point: they are not equal then, which
    an algebra system may need a second to see."""
    if not (isinstance(reference, Expr) and isinstance(answer, Expr)):
        return False
    symbols = reference.free_symbols
    if not symbols or symbols != answer.free_symbols:
        return False
    point = {symbol: Rational(101 + 7 * place, 89) for place, symbol in enumerate(sorted(symbols, key=str))}
    try:
        left, right = (complex(expression.subs(point).evalf(20)) for expression in (reference, answer))
    except (TypeError, ValueError, ArithmeticError):
        return False  # no number there
    return abs(left - right) > 1e-9 * max(1.0, abs(left), abs(right))


def compare(reference: str, answer: str) -> Comparison:
    """Whether two LaTeX formulas (without dollar signs) are equal for math-verify."""
    parsed = [_parsed(reference), _parsed(answer)]
    if not parsed[0]:
        return "unreadable reference"
    if not parsed[1]:
        return "unreadable answer"
    if _differ_somewhere(parsed[0][0], parsed[1][0]):
        return "different"
    return "equal" if verify(*parsed, float_rounding=DECIMALS, timeout_seconds=None) else "different"


def main() -> None:
    """Answer requests `{"reference", "answer", "cpu_seconds"}` until the input ends."""
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A library that prints must not answer for us.
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])  # SIGPROF is not handled, so it kills
        try:
            comparison: Comparison = compare(request["reference"], request["answer"])
        except MemoryError:
            comparison = "unreadable answer"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(comparison), file=answers, flush=True)


if __name__ == "__main__":
    main()
