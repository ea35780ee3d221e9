"""End-to-end RL tokens per second on a CPU: Longhaul's RL against TRL's `GRPOTrainer`, run in turns on this machine.

    longhaul run --config configs/nano.yaml && python -m benchmarks.against_trl

The figure is the number of generated response tokens divided by the seconds of whole iterations: generation, judging,
training, and the hand-over of the new weights. Start-up and the first iterations (`--warm-up`) are not counted on
either side. TRL is installed from requirements/trl.txt into an environment of its own, once. Each side runs in its own
process. The last line is JSON:

- `speedup_heavy_tailed`: the nano recipe's groups, partial rollouts and lengths (to 288 tokens). Goal: at least 3.
- `speedup_uniform`: every response has 288 tokens, 224 at once, so that partial rollouts gain nothing. Goal: at least
  1.2. Both sides get a copy of the model with an end token that it never samples.

Equal on both sides: the newest nano run's long-CoT model in float32, its curated prompts drawn evenly, k, the longest
response, temperature, optimizer steps per iteration, a learning rate so small that lengths do not change, one pass over
the old policy's log-probabilities, no gradient checkpointing, our verifiers as the reward, an OpenMP thread per core.
Optimizer steps have the same number of sequences: exactly in TRL, on average in Longhaul (see `groups_done`), as long
responses continue in the next iteration; `oversampling` keeps enough of them in flight.

Different:
- Longhaul generates with vLLM and TRL with transformers' `generate`. TRL's vLLM modes do not run on a CPU: colocated,
  its weight update fails (`'Parameter' object has no attribute 'weight_loader'`), and the server mode updates over
  NCCL. transformers' continuous batching runs, at a fraction of `generate`'s speed.
- Longhaul does not train on groups whose rewards are all equal (`no_signal_share`); TRL does, with advantages of 0. In
  the uniform case hardly any response would be right: they are judged as usual, and the reward is then drawn from the
  response's text, so that nearly every group is trained on.
- Longhaul ends responses that repeat themselves (not in the uniform case), and writes a checkpoint in each iteration.
- TRL gets the settings that were fastest among those tried, by the processor time of one short run each: 28 sequences
  per pass (14 and 56 take 5 % more), a KV cache that grows (a static one: 8 % more), malloc that keeps freed memory
  (without: a quarter more), and libiomp (libgomp collapses when another process uses the cores). It trains on padded
  rows only; Longhaul's are packed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.nano_start import ROOT, NanoStart, machine, nano_start
from steps.configs.rl import RlConfig
from steps.problem import save_rows

HERE = Path(__file__).parent
REQUIREMENTS = ROOT / "requirements" / "trl.txt"
TRL_SEQUENCES_PER_PASS = 28
TRL_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**31),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""Freed memory is kept: the cache, which grows by copies, would otherwise request it from the system for each token."""
SIDES = ("longhaul", "trl")


def trl_environment(place: Path) -> Path:
    """TRL's Python, in an environment that is created if it is missing or its requirements have changed."""
    made_from = place / "requirements.txt"
    if not made_from.exists() or made_from.read_text() != REQUIREMENTS.read_text():
        uv, links = Path(sys.prefix, "bin", "uv"), os.environ.get("PIP_FIND_LINKS")
        torch = ["--find-links", links] if links else ["--torch-backend", "cpu"]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
        install = [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", f"{place}/bin/python"]
        subprocess.run([*install, *torch, "-r", str(REQUIREMENTS)], check=True)
        shutil.copyfile(REQUIREMENTS, made_from)
    return place / "bin" / "python"


def without_end(model: Path, folder: Path) -> Path:
    """A copy of a model that never ends a response: its end token is the padding token, which it never samples."""
    folder.mkdir()
    for file in model.iterdir():
        shutil.copyfile(file, folder / file.name)
    config, tokenizer = folder / "config.json", folder / "tokenizer_config.json"
    of_config, of_tokenizer = json.loads(config.read_text()), json.loads(tokenizer.read_text())
    config.write_text(json.dumps(of_config | {"eos_token_id": of_config["pad_token_id"]}))
    tokenizer.write_text(json.dumps(of_tokenizer | {"eos_token": of_tokenizer["pad_token"]}))
    return folder


def cases_of(start: NanoStart, iterations: int, warm_up: int, scratch: Path) -> dict[str, dict[str, Any]]:
    """The settings of each case, for both sides."""
    length = start.recipe.rl.max_response_tokens
    heavy_tailed = {
        "iterations": warm_up + iterations,
        "learning_rate": 1e-6,
        "final_learning_rate": 1e-6,
        "sampling": {"prioritised": False},
        "oversampling": 1.35,
    }
    uniform = heavy_tailed | {
        "groups": 28,
        "oversampling": 1.0,
        "token_budget": length,
        "sequence_length": start.recipe.curation.max_prompt_tokens + length,
        "repetition": {"min_count": length},
    }
    save_rows(scratch / "problems.jsonl", start.problems)
    common = {
        "engine": start.recipe.engine.model_dump(mode="json"),
        "trainer": start.recipe.trainer.model_dump(mode="json"),
        "problems": str(scratch / "problems.jsonl"),
        "warm_up": warm_up,
        "trl_sequences_per_pass": TRL_SEQUENCES_PER_PASS,
    }
    models = {"heavy_tailed": start.model.absolute(), "uniform": without_end(start.model, scratch / "without_end")}
    cases = {}
    for name, changes in (("heavy_tailed", heavy_tailed), ("uniform", uniform)):
        rl = RlConfig.model_validate(start.recipe.rl.model_dump() | changes).model_dump(mode="json")
        cases[name] = common | {"rl": rl, "model": str(models[name]), "coin": name == "uniform"}
    return cases


def run_side(side: str, case: dict[str, Any], trl_python: Path, logs: Path) -> dict[str, Any]:
    """One side's figures on a case, from a process of its own. Raises RuntimeError with the end of its log."""
    log = logs / f"{side}.log"
    environment = dict(os.environ)
    command = [sys.executable, "-m", "benchmarks.longhaul_peer", json.dumps(case), str(log)]
    if side == "trl":
        library = trl_python.parents[1] / "lib" / "libiomp5.so"
        environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"OMP_NUM_THREADS": str(os.cpu_count()), "KMP_BLOCKTIME": "1", "LD_PRELOAD": str(library)}
        environment |= TRL_MALLOC
        command = [str(trl_python), "-m", "benchmarks.trl_peer", json.dumps(case)]
    with log.open("a") as errors:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} ended with code {done.returncode}; the end of {log}:\n{log.read_text()[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def total(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several runs of one side, together."""
    sums = {name: sum(run[name] for run in runs) for name in ("tokens", "seconds", "rollout_seconds")}
    means = {name: statistics.fmean(run[name] for run in runs) for name in runs[0].keys() - sums.keys()}
    return sums | means | {"tokens_per_second": sums["tokens"] / sums["seconds"]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--trl", type=Path, default=Path(".longhaul/trl-env"), help="TRL's environment.")
    parser.add_argument("--case", choices=("heavy_tailed", "uniform"), action="append", help="Default: both.")
    parser.add_argument("--iterations", type=int, default=3, help="Iterations counted, of each run.")
    parser.add_argument("--warm-up", type=int, default=2, help="Iterations before them.")
    parser.add_argument("--rounds", type=int, default=2, help="Runs of each side, in turn.")
    arguments = parser.parse_args()

    start, trl_python = nano_start(arguments.store), trl_environment(arguments.trl.absolute())
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        cases = cases_of(start, arguments.iterations, arguments.warm_up, scratch)
        for name in arguments.case or cases:
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for number in range(arguments.rounds):
                for side in SIDES if number % 2 == 0 else reversed(SIDES):
                    runs[side].append(run_side(side, cases[name] | {"seed": number}, trl_python, scratch))
                    print(f"{name}, round {number + 1}, {side}: {runs[side][-1]}", file=sys.stderr)
            sides = {side: total(runs[side]) for side in SIDES}
            speedup = sides["longhaul"]["tokens_per_second"] / sides["trl"]["tokens_per_second"]
            result |= {f"speedup_{name}": speedup, name: sides}
    print(json.dumps(result | {"run": start.run, "machine": machine()}))


if __name__ == "__main__":
    main()
