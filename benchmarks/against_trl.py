"""End-to-end RL tokens per second: Longhaul against TRL's `GRPOTrainer`, on the same model, prompts and machine.

    longhaul run --config configs/nano.yaml && python benchmarks/against_trl.py

Draft docstring.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from nano import cpu_model

from flows.models import find_model, run_records
from infra.environment import CACHE
from infra.store import Store
from steps.recipe import load_recipe
from steps.rl.config import RlConfig

HERE = Path(__file__).parent
ROOT = HERE.parent
REQUIREMENTS = ROOT / "requirements" / "trl.txt"
TRL_SEQUENCES_PER_PASS = 28
SIDES = ("longhaul", "trl")


def trl_environment(place: Path) -> Path:
    """TRL's Python, in an environment that is made anew where it is missing or its requirements have changed."""
    made_from = place / "requirements.txt"
    if not made_from.exists() or made_from.read_text() != REQUIREMENTS.read_text():
        uv, links = Path(sys.prefix, "bin", "uv"), os.environ.get("PIP_FIND_LINKS")
        torch = ["--find-links", links] if links else ["--torch-backend", "cpu"]
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", place / "bin" / "python"]
        subprocess.run([*install, *torch, "-r", REQUIREMENTS], check=True)
        shutil.copyfile(REQUIREMENTS, made_from)
    return place / "bin" / "python"


def endless(model: Path, folder: Path) -> Path:
    """A copy of a model that never ends a response: its end token is the padding token, which it never samples."""
    folder.mkdir()
    for file in model.iterdir():
        shutil.copyfile(file, folder / file.name)
    config, tokenizer = folder / "config.json", folder / "tokenizer_config.json"
    words, tokens = json.loads(config.read_text()), json.loads(tokenizer.read_text())
    config.write_text(json.dumps(words | {"eos_token_id": words["pad_token_id"]}))
    tokenizer.write_text(json.dumps(tokens | {"eos_token": tokens["pad_token"]}))
    return folder


def run_side(side: str, case: dict[str, Any], trl_python: Path, logs: Path) -> dict[str, Any]:
    """One side's figures on a case, from a process of its own. Raises RuntimeError with the end of its log."""
    log = logs / f"{side}.log"
    environment = dict(os.environ)
    command = [sys.executable, str(HERE / "longhaul_peer.py"), json.dumps(case), str(log)]
    if side == "trl":
        library = trl_python.parents[1] / "lib" / "libiomp5.so"
        environment |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"OMP_NUM_THREADS": str(os.cpu_count()), "KMP_BLOCKTIME": "1", "LD_PRELOAD": str(library)}
        command = [str(trl_python), str(HERE / "trl_peer.py"), json.dumps(case)]
    with log.open("a") as errors:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
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
    parser.add_argument("--case", choices=("heavy_tailed", "uniform"), action="append", help="Both without it.")
    parser.add_argument("--iterations", type=int, default=3, help="Iterations counted, of each run.")
    parser.add_argument("--warm-up", type=int, default=2, help="Iterations before them.")
    parser.add_argument("--rounds", type=int, default=2, help="Runs of each side, in turn.")
    arguments = parser.parse_args()

    store, recipe = Store(arguments.store, CACHE / "store"), load_recipe(ROOT / "configs" / "nano.yaml")
    curation = next(record for record in run_records(store) if record.stage == "curation")
    common = recipe.rl.model_dump() | {
        "iterations": arguments.warm_up + arguments.iterations,
        "learning_rate": 1e-6,
        "final_learning_rate": 1e-6,
        "sampling": {"prioritised": False},
    }
    length = recipe.rl.max_response_tokens
    cases = {
        "heavy_tailed": {"rl": common, "coin": False},
        "uniform": {
            "rl": common | {"token_budget": length, "sequence_length": 384, "repetition": {"min_count": length}},
            "coin": True,
        },
    }
    trl_python = trl_environment(arguments.trl.absolute())
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = find_model(store, "long_cot_sft")
        models = {"heavy_tailed": model, "uniform": endless(model, Path(scratch) / "endless")}
        for name in arguments.case or cases:
            case = cases[name] | {
                "rl": RlConfig.model_validate(cases[name]["rl"]).model_dump(mode="json"),
                "engine": recipe.engine.model_dump(mode="json"),
                "trainer": recipe.trainer.model_dump(mode="json"),
                "model": str(models[name].absolute()),
                "problems": str((store.fetch(curation.outputs["prompts"]) / "problems.jsonl").absolute()),
                "warm_up": arguments.warm_up,
                "seed": recipe.seed,
                "trl_sequences_per_pass": TRL_SEQUENCES_PER_PASS,
            }
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
            for number in range(arguments.rounds):
                for side in SIDES if number % 2 == 0 else reversed(SIDES):
                    runs[side].append(run_side(side, case | {"seed": recipe.seed + number}, trl_python, Path(scratch)))
                    print(f"{name}, round {number + 1}, {side}: {runs[side][-1]}", file=sys.stderr)
            sides = {side: total(runs[side]) for side in SIDES}
            speedup = sides["longhaul"]["tokens_per_second"] / sides["trl"]["tokens_per_second"]
            result |= {f"speedup_{name}": speedup, name: sides}
    machine = {"processor": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version()}
    print(json.dumps(result | {"machine": machine}))


if __name__ == "__main__":
    main()
