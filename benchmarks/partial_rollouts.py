"""Partial rollouts against waiting for all responses: latency, throughput, and what both learn from equal tokens.

    longhaul run --config configs/nano.yaml && python -m benchmarks.partial_rollouts

Real vLLM with the nano run's long-CoT model. Waiting for all starts a batch of responses and ends with its longest.
Partial rollouts keep as many in flight: each iteration adds at most the token budget, an eighth of the longest length,
to each, and new ones take the places of finished ones; the prefix cache is emptied between iterations, as new weights
would empty it, so that prefixes are computed again. Two sets of lengths:

- `lognormal`: median 80 tokens, σ = 1, longest 1,024. The keys at the top of the JSON are for this one.
- `nano_world`: lengths of the long-CoT model's own responses to the test problems, longest 320.

`iteration_latency_ratio` and `tokens_per_second_ratio` compare the rollout phases on this machine.

`flat_step_speedup` replays the same engine steps with another cost model, that of a GPU whose forward pass is bound by
reading the weights: a step of n tokens (one per running response, and all of a prompt or prefix that is computed) costs
max(1, n / 512). It is the ratio of tokens per cost. No GPU was measured.

`accuracy_partial` and `accuracy_waiting`: held-out accuracy of RL with both, after the same number of generated tokens
(one seed). The last line is JSON.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.nano_start import NanoStart, endless, learn, machine, nano_start
from infra.environment import enter_engine_environment

IN_FLIGHT = 256
"""The nano recipe's engine.max_sequences."""

FLAT_UP_TO = 512
PROMPT = 40
BUDGETS_IN_LONGEST = 8
TOKENS = 400_000


@dataclass
class Steps:
    """The engine's steps during a generation."""

    tokens: list[int] = field(default_factory=list)
    """Tokens computed in each step."""
    running: list[int] = field(default_factory=list)
    """Responses that ran in each step."""
    generated: int = 0
    seconds: list[float] = field(default_factory=list)
    """Of each iteration."""

    @property
    def flat_cost(self) -> float:
        """With a step time that is constant up to FLAT_UP_TO tokens."""
        return sum(max(1.0, tokens / FLAT_UP_TO) for tokens in self.tokens)


@contextmanager
def watched(engine: Any, steps: Steps) -> Iterator[None]:
    """Note what the scheduler puts into each step."""
    scheduler = engine.llm.llm_engine.engine_core.engine_core.scheduler
    schedule = scheduler.schedule

    def noted(*arguments: Any, **named: Any) -> Any:
        output = schedule(*arguments, **named)
        if output.total_num_scheduled_tokens:
            steps.tokens.append(output.total_num_scheduled_tokens)
            steps.running.append(len(output.num_scheduled_tokens))
        return output

    scheduler.schedule = noted
    try:
        yield
    finally:
        scheduler.schedule = schedule


@dataclass
class Response:
    """A response with a given final length."""

    length: int
    seed: int
    tokens: list[int]

    @property
    def left(self) -> int:
        """Tokens still to come."""
        return self.length + PROMPT - len(self.tokens)


class Lengths:
    """Draws responses of a distribution of lengths, the same ones for both methods."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.rng = random.Random(0)
        self.count = 0

    def new(self) -> Response:
        """The next response."""
        self.count += 1
        prompt = [self.rng.randrange(5, 200) for _ in range(PROMPT)]
        return Response(self.lengths[self.count % len(self.lengths)], self.count, prompt)


def iteration(engine: Any, work: list[Response], budget: int, steps: Steps) -> None:
    """Add up to `budget` tokens to each response."""
    from infra.inference.requests import Request

    requests = [Request(r.tokens, min(budget, r.left), seed=(r.seed * 1009 + len(r.tokens)) % 2**31) for r in work]
    engine.llm.reset_prefix_cache()
    began = time.perf_counter()
    with watched(engine, steps):
        for completion in engine.generate(requests):
            work[completion.index].tokens += completion.tokens
            steps.generated += len(completion.tokens)
            if completion.ended == "stop":
                work[completion.index].length = len(work[completion.index].tokens) - PROMPT
    steps.seconds.append(time.perf_counter() - began)


def compare(engine: Any, lengths: list[int], longest: int, rounds: int) -> dict[str, Any]:
    """Both methods in turn on one engine."""
    budget = longest // BUDGETS_IN_LONGEST
    waiting, partial = Steps(), Steps()
    batches, flow = Lengths(lengths), Lengths(lengths)
    in_flight = [flow.new() for _ in range(IN_FLIGHT)]

    def resumed(steps: Steps) -> None:
        nonlocal in_flight
        iteration(engine, in_flight, budget, steps)
        in_flight = [response for response in in_flight if response.left > 0]
        in_flight = [*in_flight, *(flow.new() for _ in range(IN_FLIGHT - len(in_flight)))]

    for _ in range(BUDGETS_IN_LONGEST):
        resumed(Steps())  # until the number of long ones in flight is what it will be on average
    for _ in range(rounds):
        iteration(engine, [batches.new() for _ in range(IN_FLIGHT)], longest, waiting)
        for _ in range(4):
            resumed(partial)
    latency = [statistics.median(steps.seconds) for steps in (waiting, partial)]
    speed = [steps.generated / sum(steps.seconds) for steps in (waiting, partial)]
    flattened = [steps.generated / steps.flat_cost for steps in (waiting, partial)]
    idle = [sum(n < IN_FLIGHT / 4 for n in steps.running) / len(steps.running) for steps in (waiting, partial)]
    return {
        "iteration_latency_ratio": latency[0] / latency[1],
        "tokens_per_second_ratio": speed[1] / speed[0],
        "flat_step_speedup": flattened[1] / flattened[0],
        "iteration_seconds": {"waiting": latency[0], "partial": latency[1]},
        "tokens_per_second": {"waiting": speed[0], "partial": speed[1]},
        "steps_under_a_quarter_full": {"waiting": idle[0], "partial": idle[1]},
        "lengths": {"mean": statistics.fmean(lengths), "longest": longest, "token_budget": budget},
    }


def rl(start: NanoStart, partial: bool, tokens: int) -> dict[str, Any]:
    """RL with one method until it has generated `tokens`; all else is equal, also a response's share of updates."""
    from steps.configs.rl import RlConfig

    settings = start.recipe.rl.model_dump(mode="json")
    longest = settings["max_response_tokens"]
    settings |= {"iterations": 1000, "learning_rate": 1e-4, "final_learning_rate": 1e-4, "max_staleness": 8}
    settings |= {"length_reward": {"weight": 0.0}, "sampling": settings["sampling"] | {"curriculum_iterations": 0}}
    # An eighth of the budget brings about a fifth of the responses per iteration.
    settings |= {"token_budget": longest // BUDGETS_IN_LONGEST, "updates": 1} if partial else {"token_budget": longest}
    return learn(start, RlConfig.model_validate(settings), 0, 1000, lambda generated: generated >= tokens)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--run", help="The nano run to start from. Default: the newest.")
    parser.add_argument("--rounds", type=int, default=3, help="Batches of waiting for all.")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="Tokens generated by each of the two RL runs.")
    parser.add_argument("--rl", choices=["partial", "waiting"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from infra.progress.logs import output, quiet_to

    start = nano_start(arguments.store, arguments.run)
    log = Path(tempfile.gettempdir()) / "partial_rollouts.log"
    if arguments.rl:
        with quiet_to(log):
            output.write(json.dumps(rl(start, arguments.rl == "partial", arguments.tokens)) + "\n")
        return

    def learned(way: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.partial_rollouts", *sys.argv[1:], "--rl", way]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    rng = random.Random(0)
    results = {way: learned(way) for way in ("waiting", "partial")}
    nano = [length for length, _ in results["waiting"]["judged"][0]]
    rng.shuffle(nano)
    lognormal = [min(1024, max(1, round(rng.lognormvariate(4.382, 1.0)))) for _ in range(4096)]
    with tempfile.TemporaryDirectory() as folder, quiet_to(log):
        from infra.configs import EngineConfig
        from infra.inference.engine import Engine

        config = EngineConfig(context=1280, max_sequences=IN_FLIGHT, kv_cache_mb=768)
        engine = Engine(endless(start.model, Path(folder), 1280), config)
        iteration(engine, [Lengths([32]).new() for _ in range(8)], 32, Steps())
        matches = {
            "lognormal": compare(engine, lognormal, 1024, arguments.rounds),
            "nano_world": compare(engine, nano, 320, arguments.rounds),
        }
        engine.close()
    for name, figures in matches.items():
        print(
            f"{name}: an iteration {figures['iteration_latency_ratio']:.2f} times faster, "
            f"{figures['tokens_per_second_ratio']:.2f} times the tokens per second, "
            f"{figures['flat_step_speedup']:.2f} times with a constant step time"
        )
    keys = ("iteration_latency_ratio", "tokens_per_second_ratio", "flat_step_speedup")
    summary: dict[str, Any] = {key: matches["lognormal"][key] for key in keys}
    summary |= {f"accuracy_{way}": result["points"][-1]["accuracy"] for way, result in results.items()}
    summary |= {"accuracy_at_start": results["waiting"]["points"][0]["accuracy"]}
    summary |= {"tokens": {way: result["points"][-1]["tokens"] for way, result in results.items()}}
    print(json.dumps({**summary, **matches, "flat_up_to": FLAT_UP_TO, "in_flight": IN_FLIGHT, "machine": machine()}))


if __name__ == "__main__":
    enter_engine_environment()
    main()
