"""One process that compares expressions: JSON lines in, JSON lines out.

    python -m steps.rewards.math.worker

A short answer (`9^{9^{9^9}}`) can make it compute for ever or fill the memory. So it works here, under a memory limit,
and a timer kills the whole process when one comparison has used its CPU seconds. CPU and not wall seconds, so that a
busy machine does not change a verdict. MathPool is the other end.
"""

import json
import resource
import signal
import sys

from steps.rewards.math.algebra import agree
from steps.rewards.math.pool import Comparison
from steps.rewards.math.wire import decode

MEMORY_BYTES = 2 * 2**30


def main() -> None:
    """Answer requests `{"reference", "answer", "how", "cpu_seconds"}` until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A library that prints must not answer for us.
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])  # SIGPROF is not handled, so it kills
        try:
            equal = agree(decode(request["reference"]), decode(request["answer"]), request["how"])
            comparison: Comparison = "equal" if equal else "different"
        except (MemoryError, RecursionError):
            comparison = "too large"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(comparison), file=answers, flush=True)


if __name__ == "__main__":
    main()
