"""verl's rows: `prompt` (turns), `reward_model.ground_truth`, and `data_source` and `ability` as tags."""

import json
from typing import Any

from steps.data_formats.fields import Row, answer, field, kind, no_images
from steps.data_formats.turns import question

CODE = ("code", "coding")


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem. Raises ValueError, also for code whose tests call a function."""
    no_images(row, "images", "videos")
    ability = str(row.get("ability") or "unknown").lower()
    source = str(row.get("data_source") or "unknown")
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), dict) else {}
    assert isinstance(extra, dict)
    tags: dict[str, Any] = {"id": row_id, "domain": ability, "source": source}
    solution = extra.get("answer")
    if isinstance(solution, str):
        tags["solution"] = solution
    prompt = question(field(row, "prompt"), "prompt")
    if ability in CODE:
        return tags | prompt | {"verifier": "code", "tests": _tests(field(row, "reward_model.ground_truth"))}
    return tags | prompt | {"verifier": "math", "answer": answer(row, "reward_model.ground_truth")}


def _tests(truth: Any) -> list[tuple[str, str]]:
    cases = json.loads(truth) if isinstance(truth, str) else truth
    if not isinstance(cases, dict) or "inputs" not in cases or "outputs" not in cases:
        raise ValueError(f"field 'reward_model.ground_truth' is {kind(cases)}, and inputs and outputs are expected")
    if cases.get("fn_name"):
        raise ValueError(
            "tests that call a function (fn_name) are not read in verl's form, only those of stdin and stdout"
        )
    inputs, outputs = cases["inputs"], cases["outputs"]
    if len(inputs) != len(outputs):
        raise ValueError(f"field 'reward_model.ground_truth' has {len(inputs)} inputs and {len(outputs)} outputs")
    return list(zip(inputs, outputs, strict=True))
