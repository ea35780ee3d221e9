"""Tokens per second on a CPU: Longhaul's RL against TRL's `GRPOTrainer`, run in turns on this machine; with a model of
one's own, SFT and DPO too.

    longhaul run --config configs/nano.yaml && python -m benchmarks.against_trl
    make smollm2 && python -m scripts.smollm2 problems SVAMP.json .longhaul/smollm2
    python -m benchmarks.against_trl --model .venv/smollm2/checkpoint --data .longhaul/smollm2/train.jsonl

Start-up and the first iterations (`--warm-up`) are not counted on either side. TRL is installed from
requirements/trl.txt into an environment of its own, once. Each side runs in its own process. The last line is JSON.

Without --model, the figure is the number of generated response tokens divided by the seconds of whole iterations:
generation, judging, training, and the hand-over of the new weights.

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

With --model, the figures are `speedup_sft` and `speedup_dpo` (goals: at least 1.2), and `speedup_rl` (at least 2), on
problems in Longhaul's own form. SFT learns their solutions; DPO prefers each to another problem's. Their tokens are
those of the rows, prompts included, which both sides must count alike. Both get the same rows, those of a TRL step in
order of length, so that it pads little. TRL computes DPO's reference in each step, Longhaul before the steps: both are
timed. RL is as in the uniform case, but responses end where the model ends them. One step or iteration of each side is
not counted. TRL gets passes of 4 rows (SFT), 2 pairs (DPO) and 8 sequences (RL).

`processor_speedup_…` is the same by the processor time of each side's process, verifiers apart, instead of by the
clock: where other programs use the cores, the clock says little.
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

from benchmarks.environments import environment
from benchmarks.nano_start import ROOT, NanoStart, machine, nano_start
from benchmarks.real_model_cases import (
    CONTEXT,
    METHODS,
    SupervisedRow,
    by_length,
    rl_settings,
    save_supervised,
    supervised_case,
)
from infra.configs import EngineConfig, TrainerConfig
from steps.configs.rl import RlConfig
from steps.problem import Problem, save_rows
from steps.solutions import solved_examples
from steps.source_rows import problems_of

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
RL_PEERS = {"longhaul": "benchmarks.longhaul_peer", "trl": "benchmarks.trl_peer"}
SUPERVISED_PEERS = {"longhaul": "benchmarks.supervised_longhaul", "trl": "benchmarks.supervised_trl"}
SAME_TOKENS = 0.02
"""Largest share by which the sides' counts of the tokens of the same rows may differ."""


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


def real_model_cases(model: Path, data: Path, sizes: argparse.Namespace, scratch: Path) -> dict[str, dict[str, Any]]:
    """The settings of SFT, DPO and RL on a model, for both sides. Ends the process where there are too few problems."""
    problems = _fitting(problems_of(data, "longhaul"), model)
    rows = [(example.prompt, example.response) for example in solved_examples(problems)]
    supervised = [
        SupervisedRow(str(prompt), str(response), str(rows[place - 1][1]))
        for place, (prompt, response) in enumerate(rows)
    ]
    trainer = TrainerConfig(micro_batch_tokens=sizes.micro_batch_tokens, logit_chunk_tokens=256)
    engine = EngineConfig(context=CONTEXT, max_sequences=64, kv_cache_mb=768)
    common = {"engine": engine.model_dump(mode="json"), "trainer": trainer.model_dump(mode="json")}
    cases = {}
    for method in ("sft", "dpo"):
        path = scratch / f"{method}.jsonl"
        case = supervised_case(method, path, model.absolute(), sizes.steps, 1)
        count = (1 + sizes.steps) * case["per_step"]
        if len(supervised) < count:
            sys.exit(f"{data} has {len(supervised)} problems that fit {CONTEXT} tokens, and {count} are needed")
        save_supervised(path, by_length(supervised[:count], case["per_step"]))
        cases[method] = common | case | {"trl_loss": sizes.trl_sft_loss}
    rl = RlConfig.model_validate(rl_settings(1 + sizes.iterations)).model_dump(mode="json")
    save_rows(scratch / "problems.jsonl", problems)
    cases["rl"] = common | {
        "rl": rl,
        "model": str(model.absolute()),
        "coin": True,
        "problems": str(scratch / "problems.jsonl"),
        "warm_up": 1,
        "trl_sequences_per_pass": sizes.trl_sequences_per_pass,
    }
    return cases


def _fitting(problems: list[Problem], model: Path) -> list[Problem]:
    """Those whose prompt and longer response, as both sides write them, fit a row."""
    from steps.chat import Chat

    chat = Chat(model)
    half = CONTEXT // 2
    return [
        problem
        for problem in problems
        if len(chat.prompt(problem)) <= half and len(chat.encode_response(problem.solution or "")) < half - 16
    ]


def run_side(side: str, case: dict[str, Any], trl_python: Path, logs: Path) -> dict[str, Any]:
    """One side's figures on a case, from a process of its own. Raises RuntimeError with the end of its log."""
    log = logs / f"{side}.log"
    variables = dict(os.environ)
    modules = SUPERVISED_PEERS if "method" in case else RL_PEERS
    command = [sys.executable, "-m", modules["longhaul"], json.dumps(case), str(log)]
    if side == "trl":
        library = trl_python.parents[1] / "lib" / "libiomp5.so"
        variables |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        variables |= {"OMP_NUM_THREADS": str(os.cpu_count()), "KMP_BLOCKTIME": "1", "LD_PRELOAD": str(library)}
        variables |= TRL_MALLOC
        command = [str(trl_python), "-m", modules["trl"], json.dumps(case)]
    with log.open("a") as errors:
        done = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} ended with code {done.returncode}; the end of {log}:\n{log.read_text()[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def total(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several runs of one side, together."""
    added = [name for name in ("tokens", "seconds", "processor_seconds", "rollout_seconds") if name in runs[0]]
    sums = {name: sum(run[name] for run in runs) for name in added}
    means = {name: statistics.fmean(run[name] for run in runs) for name in runs[0].keys() - sums.keys()}
    rates = {
        "tokens_per_second": sums["tokens"] / sums["seconds"],
        "tokens_per_processor_second": sums["tokens"] / sums["processor_seconds"],
    }
    return sums | means | rates


def check_equal_work(name: str, sides: dict[str, dict[str, Any]]) -> None:
    """Ends the process where supervised sides did not train on the same tokens."""
    counts = [sides[side]["tokens"] for side in SIDES]
    if max(counts) > (1 + SAME_TOKENS) * min(counts):
        sys.exit(f"{name}: the sides count {counts} tokens in the same rows: their templates differ")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default=".longhaul/store")
    parser.add_argument("--trl", type=Path, default=Path(".longhaul/trl-env"), help="TRL's environment.")
    parser.add_argument("--model", type=Path, help="A checkpoint's folder: SFT, DPO and RL on it, not the nano run's.")
    parser.add_argument("--data", type=Path, help="With --model: problems in Longhaul's own form, with solutions.")
    parser.add_argument("--case", choices=("heavy_tailed", "uniform", *METHODS), action="append", help="Default: all.")
    parser.add_argument("--iterations", type=int, help="Iterations counted, of each run; default: 3, with --model 2.")
    parser.add_argument("--steps", type=int, default=4, help="Steps of SFT and DPO counted, of each run.")
    parser.add_argument("--warm-up", type=int, default=2, help="Iterations before them; with --model it is one.")
    parser.add_argument("--rounds", type=int, help="Runs of each side, in turn; default: 2, with --model 1.")
    parser.add_argument("--micro-batch-tokens", type=int, default=1024, help="Of Longhaul's trainer, with --model.")
    parser.add_argument("--trl-sequences-per-pass", type=int, default=8, help="Of TRL in RL, with --model.")
    parser.add_argument("--trl-sft-loss", choices=("nll", "chunked_nll"), default="nll", help="TRL's loss of SFT.")
    arguments = parser.parse_args()
    if (arguments.model is None) != (arguments.data is None):
        parser.error("give --model and --data, or neither")

    rounds = arguments.rounds or (1 if arguments.model else 2)
    arguments.iterations = arguments.iterations or (2 if arguments.model else 3)
    trl_python = environment(arguments.trl.absolute(), REQUIREMENTS)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if arguments.model:
            source = {"model": str(arguments.model)}
            cases = real_model_cases(arguments.model, arguments.data, arguments, scratch)
        else:
            start = nano_start(arguments.store)
            source = {"run": start.run}
            cases = cases_of(start, arguments.iterations, arguments.warm_up, scratch)
        names = arguments.case or list(cases)
        if unknown := [name for name in names if name not in cases]:
            parser.error(f"--case {unknown[0]} is not one of {', '.join(cases)}, which this run has")
        for name in names:
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for number in range(rounds):
                for side in SIDES if number % 2 == 0 else reversed(SIDES):
                    runs[side].append(run_side(side, cases[name] | {"seed": number}, trl_python, scratch))
                    print(f"{name}, round {number + 1}, {side}: {runs[side][-1]}", file=sys.stderr)
            sides = {side: total(runs[side]) for side in SIDES}
            if "method" in cases[name]:
                check_equal_work(name, sides)
            result[name] = sides
            for measure, key in (("tokens_per_second", ""), ("tokens_per_processor_second", "processor_")):
                result[f"{key}speedup_{name}"] = sides["longhaul"][measure] / sides["trl"][measure]
    print(json.dumps(result | source | {"machine": machine()}))


if __name__ == "__main__":
    main()
