"""The reward models (§2.3.5) side by side: their spot checks, and RL with each of them as the reward.

    longhaul run --config configs/nano.yaml && python -m benchmarks.reward_models

Trains both models from the nano run's long-CoT model, as the stage reward_models does, and then runs RL from the same
model with the rules, the classic model and the chain-of-thought model as the reward for mathematics. Held-out accuracy
is always judged by the rules. Takes about ten minutes on two cores. The last line is JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.nano_start import NanoStart, learn, machine, nano_start
from infra.environment import enter_engine_environment

REWARDS = ("rules", "classic_rm", "cot_rm")


def train_models(start: NanoStart, folder: Path) -> dict[str, Any]:
    """Run the stage's body on the nano run's outputs. Returns its metrics and seconds."""
    from infra.stages.contract import StageContext
    from steps.configs.reward_models import RewardModelsConfig
    from steps.stages import reward_models
    from steps.stages.settings import TrainSettings

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    recipe = start.recipe
    settings = TrainSettings(
        own=RewardModelsConfig(),
        engine=recipe.engine,
        trainer=recipe.trainer,
        handover=recipe.handover,
        judging=recipe.judging,
        gates=recipe.gates.suite("reward_models"),
    )
    inputs = {"model": start.model, "data": start.data, "prompts": start.prompts}
    context = StageContext(recipe.seed, inputs, folder, folder / "checkpoints", lambda metrics: None)
    began = time.monotonic()
    output = reward_models.run(context, settings)
    return {**output.metrics, "seconds": time.monotonic() - began}


def run_rl(start: NanoStart, reward: str, folder: Path, iterations: int, seed: int) -> dict[str, Any]:
    """RL with one reward. Returns its curve, the reward's verdicts, and the seconds of an iteration."""
    from steps.configs.rl import RlConfig
    from steps.rewards.load import open_reward_model
    from steps.stages.rl import judged_by

    rl = start.recipe.rl.model_dump(mode="json")
    rl |= {"iterations": iterations, "reward": reward, "length_reward": {"weight": 0.0, "warmup_iterations": 0}}
    rl["sampling"] |= {"curriculum_iterations": iterations // 3}
    config = RlConfig.model_validate(rl)
    start = replace(start, problems=judged_by(start.problems, config))

    def models() -> dict[str, Any]:
        return {} if reward == "rules" else {reward: open_reward_model(folder / reward, start.recipe.engine)}

    result = learn(start, config, seed, every=max(1, iterations // 4), reward_models=models)
    history = result["history"]
    seconds = [one.seconds for one in history]
    return {
        "points": result["points"],
        "verdicts": result["verdicts"],
        "failed_judgements": sum(one.failed_judgements for one in history),
        "rollout_seconds": statistics.median(one.rollout_seconds for one in history),
        "iteration_seconds": statistics.median(seconds),
    }


def apart(arguments: argparse.Namespace, part: str) -> dict[str, Any]:
    """One part in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.reward_models",
        "--store",
        arguments.store,
        "--folder",
        str(arguments.folder),
        "--one",
        part,
    ]
    command += ["--iterations", str(arguments.iterations), "--seed", str(arguments.seed)]
    command += ["--run", arguments.run] if arguments.run else []
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode != 0:
        raise RuntimeError(f"{part}: {done.stderr[-3000:]}")
    print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(trained: dict[str, Any], runs: dict[str, dict[str, Any]]) -> None:
    """Both tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=110)
    table = Table("model", "accuracy", "in the report", "answers", "no verdict", "wrong called right", "per second")
    for name, check in trained["spot_checks"].items():
        shares = [f"{check['accuracy']:.1%}", f"{check['reported']:.1%}"]
        counts = [str(check[key]) for key in ("answers", "no_verdict", "wrong_called_right")]
        table.add_row(name, *shares, *counts, f"{check['per_second']:.0f}")
    console.print(table)
    table = Table("reward of RL", "accuracy by the rules, before", "after", "tokens", "s per iteration", "no verdict")
    for reward, run in runs.items():
        first, last = run["points"][0], run["points"][-1]
        row = [f"{first['accuracy']:.1%}", f"{last['accuracy']:.1%}", f"{first['length']:.0f} → {last['length']:.0f}"]
        table.add_row(reward, *row, f"{run['iteration_seconds']:.1f}", f"{run['failed_judgements']:.0f}")
    console.print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--run", help="The nano run to start from. Default: the newest.")
    parser.add_argument(
        "--folder", type=Path, default=Path(".longhaul/reward_models"), help="Where the models are written."
    )
    parser.add_argument("--iterations", type=int, default=12, help="Iterations of RL.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rewards", nargs="*", choices=REWARDS, default=REWARDS)
    parser.add_argument("--one", choices=("train", *REWARDS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.one:
        trained = apart(arguments, "train")
        runs = {reward: apart(arguments, reward) for reward in arguments.rewards}
        show(trained, runs)
        print(json.dumps({"models": trained, "rl": runs, "machine": machine()}))
        return
    from infra.progress.logs import output, quiet_to

    start = nano_start(arguments.store, arguments.run)
    work = partial(run_rl, start, arguments.one, arguments.folder / "models", arguments.iterations, arguments.seed)
    if arguments.one == "train":
        work = partial(train_models, start, arguments.folder / "models")
    with quiet_to(arguments.folder / f"{arguments.one}.log"):
        output.write(json.dumps(work()) + "\n")
        output.flush()


if __name__ == "__main__":
    if "--one" in sys.argv:
        enter_engine_environment()
    main()
