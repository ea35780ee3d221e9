"""Does RL here reproduce the report's findings (§3)? Runs RL on the nano world in several variants; draws figures.

    longhaul run --config configs/nano.yaml && python -m benchmarks.fidelity

Every run starts from the nano run's long-CoT model; the seed changes what RL samples, not the model it starts from.
Held-out accuracy and length are measured every few iterations. The comparisons, each with at least three seeds:

- Fig. 5: accuracy and response length over the iterations.
- Fig. 6: accuracy against the context that a response can use. A response that is longer than a context has no answer
  within it, so one evaluation at the longest context gives all shorter ones.
- Fig. 10: mirror descent against ReST, in samples to a given accuracy.
- Fig. 9: the curriculum, then prioritised prompts, against uniform ones.
- With and without the length reward; partial against full rollouts at equal tokens.

Finished runs are kept in a folder and reused while their settings stay the same. Two runs at a time take five to eight
minutes on two cores, and all of them about an hour. The last line is JSON.
"""

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.nano_start import NanoStart, learn, machine, nano_start
from infra.environment import enter_engine_environment

ITERATIONS, EVERY = 20, 4
UNIFORM = {"curriculum_iterations": 0, "hard_below": 1.0, "prioritised": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "mirror descent": {},
    "ReST": {"objective": "rest"},
    "uniform prompts": {"sampling": UNIFORM},
    "length reward": {"length_reward": {"weight": 0.5, "warmup_iterations": 8}},
    "full rollouts": {"token_budget": 288},
}
"""What each variant of RL changes; the others are compared with the first."""
BASE = "mirror descent"
CONTEXTS = (16, 32, 48, 64, 96, 128, 160, 192, 224, 256, 288, 320)


def settings(start: NanoStart, variant: str) -> dict[str, Any]:
    """The RL section of one variant: the nano recipe's, shorter, and without the length reward."""
    rl = start.recipe.rl.model_dump(mode="json")
    rl |= {"iterations": ITERATIONS, "groups": 48, "length_reward": {"weight": 0.0, "warmup_iterations": 0}}
    rl["sampling"] |= {"curriculum_iterations": 6}
    return rl | VARIANTS[variant]


def run_one(start: NanoStart, variant: str, seed: int) -> dict[str, Any]:
    """One RL run. Returns its curve, and accuracy by context at the start and the end."""
    from steps.configs.rl import RlConfig

    result = learn(start, RlConfig.model_validate(settings(start, variant)), seed, EVERY)
    ends = result.pop("judged")
    contexts = [[statistics.fmean(r * (n <= most) for n, r in ends[i]) for most in CONTEXTS] for i in (0, -1)]
    return result | {"contexts": contexts}


def all_runs(arguments: argparse.Namespace, start: NanoStart) -> dict[str, list[dict[str, Any]]]:
    """The runs of each variant, one per seed: kept ones are read, the others are made now."""

    def made(job: tuple[int, str]) -> dict[str, Any]:
        seed, variant = job
        place = arguments.folder / f"{variant.replace(' ', '-')}-{seed}.json"
        expected = {"settings": settings(start, variant), "seed": seed, "model": start.model.parent.name}
        if place.exists() and (cached := json.loads(place.read_text()))["of"] == expected:
            return cached
        began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.fidelity", "--store", arguments.store, "--run", start.run]
        # One thread for each of two runs at a time: they would only wait for each other's.
        done = subprocess.run(
            [*command, "--one", variant, "--seed", str(seed)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{variant}, seed {seed}: {done.stderr[-2000:]}")
        result = json.loads(done.stdout.splitlines()[-1]) | {"of": expected}
        place.write_text(json.dumps(result))
        print(f"{variant}, seed {seed}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return result

    arguments.folder.mkdir(parents=True, exist_ok=True)
    jobs = [(seed, variant) for seed in range(arguments.seeds) for variant in VARIANTS]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = dict(zip(jobs, pool.map(made, jobs), strict=True))
    return {variant: [results[seed, variant] for seed in range(arguments.seeds)] for variant in VARIANTS}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--run", help="The nano run to start from. Default: the newest.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".longhaul/fidelity"), help="Where finished runs are kept.")
    parser.add_argument("--figure", type=Path, default=Path("docs/fidelity.png"))
    parser.add_argument("--one", choices=list(VARIANTS), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    start = nano_start(arguments.store, arguments.run)
    if arguments.one:
        from infra.progress.logs import output, quiet_to

        with quiet_to(arguments.folder / "log" / f"{arguments.one}-{arguments.seed}.log"):
            output.write(json.dumps(run_one(start, arguments.one, arguments.seed)) + "\n")
            output.flush()
        return
    from benchmarks.fidelity_figures import draw, findings

    began = time.monotonic()
    runs = all_runs(arguments, start)
    draw(runs, CONTEXTS, arguments.figure)
    results = findings(runs, CONTEXTS)
    for name, text in results["sentences"].items():
        print(f"- {name}: {text}")
    print(json.dumps({**results["figures"], "seconds": time.monotonic() - began, "machine": machine()}))


if __name__ == "__main__":
    if "--one" in sys.argv:
        enter_engine_environment()
    main()
