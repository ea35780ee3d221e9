"""Where the time of an RL iteration goes, compared with a lower bound for what the algorithm has to compute.

    longhaul run --config configs/nano.yaml && python -m benchmarks.iteration

Runs a few iterations of the nano recipe's RL from the nano run's long-CoT model, in one process, and prints a table.

- `handover_share`: offload, update of weights, release and onload, as a share of the iteration.
- `deepspeed_overhead`: the time of DeepSpeed's optimizer step over that of a plain PyTorch loop (forward, loss,
  backward, clipping, AdamW) on the same model and micro-batches, the two in turn; the median.
- `iteration_over_floor`: the iteration's time over its lower bound. The bound is the generated tokens at the engine's
  speed when the same number of responses all have one length, plus the trained tokens at the plain loop's speed, plus
  one forward pass over them for the reference. The plain loop's attention is under a mask, and the trainer's is not: an
  iteration can take less.
- `startup_seconds`: from the start of a stage's process until trainer and engine are ready and weights handed over,
  with warm caches; the median of three processes.

The last line is JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOBase
from pathlib import Path
from typing import Any

from benchmarks.nano_start import NanoStart, endless, machine, nano_start
from infra.environment import enter_engine_environment

WARM_UP = 1


class Profile:
    """Seconds spent in parts of the iteration, by wrapping the methods that do them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def of(self, owner: Any, method: str, part: str) -> Iterator[None]:
        """Count the time of a method towards a part."""
        original: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began

        setattr(owner, method, timed)
        try:
            yield
        finally:
            setattr(owner, method, original)


def profile_iterations(start: NanoStart, iterations: int) -> dict[str, Any]:
    """RL's iterations in parts, and the last optimizer step's micro-batches once more by a plain loop."""
    from infra.inference.engine import Engine
    from infra.training.trainer import Trainer
    from steps.rl import rollout
    from steps.rl.checkpoint import Checkpoints
    from steps.rl.iteration import RlRun
    from steps.workbench import open_workbench

    recipe = start.recipe
    taken: list[Any] = []
    step = Trainer.step

    def recorded(trainer: Trainer, batches: Any, *others: Any) -> Any:
        taken.append((batches, *others))
        return step(trainer, batches, *others)

    profile = Profile()
    with (
        tempfile.TemporaryDirectory() as folder,
        open_workbench(start.model, engine=recipe.engine, trainer=recipe.trainer, seed=0) as bench,
    ):
        checkpoints = Checkpoints(Path(folder))
        assert isinstance(bench.engine, Engine)
        run = RlRun(bench, start.problems, start.pass_rates, recipe.rl, checkpoints)
        seconds, tokens = [], 0.0
        setattr(Trainer, "step", recorded)  # noqa: B010  (mypy refuses an assignment to a method)
        bench.hand_over()
        with (
            profile.of(bench.engine.llm.llm_engine, "step", "generation"),
            profile.of(rollout, "_take_judgements", "waiting for rewards"),
            profile.of(bench.trainer, "reference_logprobs", "reference pass"),
            profile.of(Trainer, "step", "optimizer steps"),
            profile.of(bench, "hand_over", "hand-over"),
            profile.of(bench, "resume_training", "hand-over"),
            profile.of(Checkpoints, "save", "saving"),
        ):
            for number in range(WARM_UP + iterations):
                if number == WARM_UP:
                    profile.seconds.clear()
                    taken.clear()
                began = time.perf_counter()
                metrics = run.iterate()
                checkpoints.save(run.state, bench.trainer, run.samples)
                if number >= WARM_UP:
                    seconds.append(time.perf_counter() - began)
                    tokens += metrics.rollout_tokens
        Trainer.step = step  # type: ignore[method-assign]
        trained = sum(int(rows.tokens.numel()) for batches, *_ in taken for rows in batches)
        compared = against_plain(bench.trainer, taken[: recipe.rl.updates], recipe.rl.temperature)
    parts = {part: spent / iterations for part, spent in profile.seconds.items()}
    parts["other"] = statistics.fmean(seconds) - sum(parts.values())
    return {
        "iteration_seconds": statistics.fmean(seconds),
        "parts": parts,
        "generated_tokens": tokens / iterations,
        "trained_tokens": trained / iterations,
        "in_flight": recipe.rl.in_flight * recipe.rl.responses,
        **compared,
    }


def against_plain(trainer: Any, taken: list[Any], temperature: float) -> dict[str, float]:
    """Optimizer steps of the trainer and of a plain PyTorch loop on the same micro-batches, in turn."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        trainer.folder, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=trainer.config.betas, weight_decay=0.0)

    def logprobs(rows: Any) -> Any:
        logits = model(input_ids=rows.tokens, position_ids=rows.positions, use_cache=False).logits[:, :-1].float()
        flattened = (logits / temperature).flatten(0, 1)
        return -torch.nn.functional.cross_entropy(flattened, rows.tokens[:, 1:].flatten(), reduction="none").view(
            len(rows.tokens), -1
        )

    def plain(batches: Any, loss: Any) -> None:
        optimizer.zero_grad()
        for rows in batches:
            loss(logprobs(rows), rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), trainer.config.clip_gradient_norm)
        optimizer.step()

    def seconds(function: Callable[..., Any], *arguments: Any) -> float:
        began = time.perf_counter()
        function(*arguments)
        return time.perf_counter() - began

    ratios, speeds, forward = [], [], []
    for turn in range(4):
        for batches, loss, _, heat in taken:
            tokens = sum(int(rows.tokens.numel()) for rows in batches)
            own = seconds(trainer.step, batches, loss, 1e-6, heat)
            other = seconds(plain, batches, loss)
            with torch.no_grad():
                only_forward = seconds(lambda batches=batches: [logprobs(rows) for rows in batches])
            if turn:  # the first one warms up
                ratios.append(own / other)
                speeds.append(tokens / other)
                forward.append(tokens / only_forward)
    return {
        "deepspeed_overhead": statistics.median(ratios),
        "plain_tokens_per_second": statistics.median(speeds),
        "forward_tokens_per_second": statistics.median(forward),
    }


def engine_speed(start: NanoStart, in_flight: int, length: int) -> float:
    """Tokens per second where `in_flight` responses all have one length."""
    from infra.inference.engine import Engine
    from infra.inference.requests import Request

    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(endless(start.model, Path(folder), start.recipe.engine.context), start.recipe.engine)
        prompts = [[5 + (7 * i + j * j) % 200 for j in range(40)] for i in range(in_flight)]
        speeds = []
        for turn in range(3):
            requests = [Request(prompt, length, seed=1000 * turn + i) for i, prompt in enumerate(prompts)]
            engine.llm.reset_prefix_cache()
            began = time.perf_counter()
            tokens = sum(len(completion.tokens) for completion in engine.generate(requests))
            speeds.append(tokens / (time.perf_counter() - began))
        engine.close()
    return statistics.median(speeds[1:])


def become_ready(start: NanoStart, output: TextIOBase) -> None:
    """What a stage's process does before its work begins."""
    from steps.workbench import open_workbench

    recipe = start.recipe
    with open_workbench(start.model, engine=recipe.engine, trainer=recipe.trainer, seed=0) as bench:
        bench.hand_over()
        output.write("ready\n")
        output.flush()


def startup_seconds(command: list[str]) -> float:
    """Seconds from a process's start until it is ready."""
    times = []
    for _ in range(4):
        began = time.perf_counter()
        with subprocess.Popen([*command, "--part", "startup"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            while "ready" not in (line := process.stdout.readline()):
                if not line:
                    raise RuntimeError("the process ended before it was ready")
            times.append(time.perf_counter() - began)
            process.stdout.read()
    return statistics.median(times[1:])  # the first one warms the caches


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--run", help="The nano run to start from. Default: the newest.")
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--part", choices=["startup", "profile", "engine"], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, nargs=2, default=(1, 1), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    start = nano_start(arguments.store, arguments.run)
    if arguments.part:
        from infra.progress.logs import output, quiet_to

        with quiet_to(Path(tempfile.gettempdir()) / "iteration.log"):
            if arguments.part == "startup":
                become_ready(start, output)
            elif arguments.part == "profile":
                output.write(json.dumps(profile_iterations(start, arguments.iterations)) + "\n")
            else:
                output.write(json.dumps(engine_speed(start, *arguments.size)) + "\n")
        return
    command = [sys.executable, "-m", "benchmarks.iteration", *sys.argv[1:]]

    def part(*arguments: str) -> Any:
        done = subprocess.run([*command, "--part", *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    results = part("profile")
    mean_length = round(results["generated_tokens"] / results["in_flight"])
    speed = part("engine", "--size", str(results["in_flight"]), str(mean_length))
    floor = {
        "generation": results["generated_tokens"] / speed,
        "reference pass": results["trained_tokens"] / results["forward_tokens_per_second"],
        "optimizer steps": results["trained_tokens"] / results["plain_tokens_per_second"],
    }
    print("| part | seconds | share | floor |")
    print("|---|---:|---:|---:|")
    for name, spent in sorted(results["parts"].items(), key=lambda row: -row[1]):
        at_least = f"{floor[name]:.2f}" if name in floor else "–"
        print(f"| {name} | {spent:.2f} | {spent / results['iteration_seconds']:.1%} | {at_least} |")
    summary = {
        "handover_share": results["parts"]["hand-over"] / results["iteration_seconds"],
        "deepspeed_overhead": results["deepspeed_overhead"],
        "iteration_over_floor": results["iteration_seconds"] / sum(floor.values()),
        "startup_seconds": startup_seconds(command),
        "floor_seconds": floor,
        "engine_tokens_per_second": speed,
    }
    print(json.dumps({**summary, **results, "machine": machine()}))


if __name__ == "__main__":
    enter_engine_environment()
    main()
