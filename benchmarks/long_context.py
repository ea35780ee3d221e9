"""What responses that continue cost as the context grows, and prompts in chunks against prompts at once.

    .venv/bin/python -m benchmarks.long_context [--json FILE] [--lengths 1024 4096 16384 32768]

The shipped base in float32, its positions raised. Every figure comes from a process of its own.

`reread`: four responses, an eighth, three, five and seven eighths of the context long, grow by at most an eighth of it
(an iteration of partial rollouts; the base ends some of them before), once with an empty prefix cache, as after a
hand-over, and once with all of their tokens in it. `reread_share` is the metric of RL: tokens computed again, of all
that the engine computes. `time_share` is what reading them again takes of the iteration's time: 1 - seconds with the
prefixes cached / seconds without.

`prefill`: one prompt that fills the context, computed in chunks of 4,096 tokens and at once, and the same seeded
response to both.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.long_rows import BASE
from benchmarks.nano_start import endless, machine
from infra.environment import enter_engine_environment

LENGTHS = (1024, 4096, 16384, 32768)
EIGHTHS = (1, 3, 5, 7)
CHUNK = 4096


def _tokens(count: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(5, 200) for _ in range(count)]


def _engine(folder: str, length: int, batched: int) -> Any:
    from infra.configs import EngineConfig
    from infra.inference.engine import Engine

    model = endless(BASE, Path(folder), length)
    config = EngineConfig(
        context=length, max_sequences=8, max_batched_tokens=batched, kv_cache_mb=max(64, length // 80)
    )
    return Engine(model, config)


def reread(length: int) -> dict[str, Any]:
    """An iteration whose responses continue, with and without their prefixes, in this process."""
    from infra.inference.requests import Request

    with tempfile.TemporaryDirectory() as folder:
        engine = _engine(folder, length, CHUNK)
        grow = length // 8 - 1
        requests = [Request(_tokens(length * part // 8, part), grow, seed=part) for part in EIGHTHS]
        engine.generate_all([Request(_tokens(64, 0), 8, seed=0)])
        seconds, computed, read = {}, {}, {}
        for name in ("read again", "cached"):
            if name == "read again":
                engine.llm.reset_prefix_cache()
            else:
                engine.generate_all([Request(one.tokens, 1, one.seed) for one in requests])
            began = time.perf_counter()
            done = engine.generate_all(requests)
            seconds[name] = time.perf_counter() - began
            read[name] = sum(len(requests[one.index].tokens) - one.cached for one in done)
            computed[name] = read[name] + sum(len(one.tokens) for one in done)
        engine.close()
    return {
        "reread_share": read["read again"] / computed["read again"],
        "time_share": 1 - seconds["cached"] / seconds["read again"],
        "seconds": seconds["read again"],
        "read_again": read["read again"],
        "generated": computed["read again"] - read["read again"],
    }


def prefill(length: int, at_once: bool) -> dict[str, Any]:
    """A prompt that fills the context, in this process."""
    from infra.inference.requests import Request

    with tempfile.TemporaryDirectory() as folder:
        engine = _engine(folder, length, length if at_once else CHUNK)
        before = _peak()
        began = time.perf_counter()
        (done,) = engine.generate_all([Request(_tokens(length - 16, 1), 8, seed=1)])
        seconds = time.perf_counter() - began
        engine.close()
    return {"seconds": seconds, "peak_gb": _peak(), "prompt_gb": _peak() - before, "tokens": done.tokens}


def _peak() -> float:
    """Of this process, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _in_a_process(what: str, length: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.long_context", "--measure", what, "--lengths", str(length)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{what} {length:,}: {measured}", file=sys.stderr, flush=True)
    return measured


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was measured to a file")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--measure", choices=["reread", "chunks", "at once"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        from infra.progress.logs import output, quiet_to

        (length,) = arguments.lengths
        with quiet_to(Path(tempfile.gettempdir()) / "long_context.log"):
            of_one = reread(length) if arguments.measure == "reread" else prefill(length, arguments.measure != "chunks")
            output.write(json.dumps(of_one) + "\n")
        return
    longest = max(arguments.lengths)
    chunks, at_once = _in_a_process("chunks", longest), _in_a_process("at once", longest)
    results = {
        "reread": {length: _in_a_process("reread", length) for length in arguments.lengths},
        "prefill": {
            "context": longest,
            "same_tokens": chunks.pop("tokens") == at_once.pop("tokens"),
            "chunks": chunks,
            "at_once": at_once,
        },
        "machine": machine(),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    print(json.dumps(results))


if __name__ == "__main__":
    enter_engine_environment()
    main()
