r"""A real model on the same problems with the same prompts: Longhaul's evaluation against lm-evaluation-harness.

    make smollm2
    python -m benchmarks.against_lm_eval --model .venv/smollm2/checkpoint --data GSM8K/test.jsonl --limit 60

The harness is installed from requirements/lm_eval.txt into an environment of its own, once; its model is transformers'
(`hf`), under the checkpoint's chat template. Both sides take the likeliest token each time, in float32, and read the
last number of a response, with the harness's own filter and comparison on its side (gsm8k's `flexible-extract`). The
last line is JSON: both accuracies, Longhaul's standard error, by how many of them the two differ (goal: at most 1), and
whether all prompts are the same, which is a condition: the process ends with 1 where they are not.

Greedy responses are not the same to the letter: where two tokens are nearly as likely, rounding decides.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environments import environment
from benchmarks.nano_start import ROOT, machine

REQUIREMENTS = ROOT / "requirements" / "lm_eval.txt"
INSTRUCTION = "Think step by step, and end with the final answer as a number."
CONTEXT = 768


def run_side(command: list[str], variables: dict[str, str], log: Path) -> dict[str, Any]:
    """The figures of one side, from a process of its own. Raises RuntimeError with the end of its log."""
    with log.open("a") as errors:
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    if done.returncode:
        raise RuntimeError(f"{command[2]} ended with code {done.returncode}:\n{log.read_text()[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="A checkpoint's folder.")
    parser.add_argument("--data", type=Path, required=True, help="Problems in GSM8K's form, as JSON lines.")
    parser.add_argument("--limit", type=int, default=60, help="Only the first so many.")
    parser.add_argument("--max-tokens", type=int, default=160, help="Longest response.")
    parser.add_argument("--batch", type=int, default=20, help="Of the harness.")
    parser.add_argument("--environment", type=Path, default=Path(".longhaul/lm-eval-env"), help="The harness's.")
    arguments = parser.parse_args()

    python = environment(arguments.environment.absolute(), REQUIREMENTS)
    case = json.dumps(
        {
            "model": str(arguments.model.absolute()),
            "data": str(arguments.data.absolute()),
            "limit": arguments.limit,
            "max_tokens": arguments.max_tokens,
            "batch": arguments.batch,
            "instruction": INSTRUCTION,
            "context": CONTEXT,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        offline = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{folder}/cache"}
        harness = run_side([str(python), "-m", "benchmarks.lm_eval_peer", case], offline, log)
        longhaul = run_side([sys.executable, "-m", "benchmarks.longhaul_evaluation_peer", case, str(log)], {}, log)
    same = longhaul.pop("prompts") == harness.pop("prompts")
    difference = longhaul["accuracy"] - harness["accuracy"]
    result = {
        "longhaul": longhaul,
        "lm_eval": harness,
        "difference": difference,
        # No error where all or none are right: any difference is then too much.
        "standard_errors": abs(difference) / longhaul["standard_error"] if longhaul["standard_error"] else None,
        "same_prompts": same,
        "model": str(arguments.model),
        "problems": arguments.limit,
        "machine": machine(),
    }
    print(json.dumps(result))
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
