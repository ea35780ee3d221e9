"""lm-evaluation-harness's side of benchmarks/against_lm_eval.py. Runs in the harness's own environment.

The last line printed is the side's figures, with its prompts.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from lm_eval.tasks import TaskManager

TASK = "same_rows"
READING = "flexible-extract"


def task(case: dict[str, Any]) -> dict[str, Any]:
    """The task: gsm8k's as the harness defines it, but for the prompt and for where its rows are."""
    # Jinja writes what a string literal holds; JSON's is one.
    instruction = json.dumps("\n\n" + case["instruction"])
    return {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": case["data"]}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question + " + instruction + "}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": case["max_tokens"]},
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": False,
                "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
            }
        ],
        "filter_list": [
            {
                "name": READING,
                "filter": [
                    {"function": "regex", "group_select": -1, "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)"},
                    {"function": "take_first"},
                ],
            }
        ],
    }


def main() -> None:
    """Command line: the case as JSON."""
    case = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{TASK}.yaml").write_text(yaml.safe_dump(task(case)))
        start = time.perf_counter()
        results = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": case["model"], "dtype": "float32"},
            tasks=[TASK],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            limit=case["limit"],
            batch_size=case["batch"],
            device="cpu",
            apply_chat_template=True,
            log_samples=True,
        )
        seconds = time.perf_counter() - start
    samples = sorted(results["samples"][TASK], key=lambda sample: sample["doc_id"])
    figures = {
        "accuracy": results["results"][TASK][f"exact_match,{READING}"],
        "standard_error": results["results"][TASK][f"exact_match_stderr,{READING}"],
        "seconds": seconds,
        "prompts": [sample["arguments"][0][0] for sample in samples],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
