"""verl's rows: `prompt` (turns), `reward_model.ground_truth`, and `data_source` and `ability` as tags."""

import json
from typing import Any

from steps.data_formats.fields import Row, answer, field, kind
from steps.data_formats.gsm8k import MARK, worked_solution
from steps.data_formats.pictures import Pictures
from steps.data_formats.turns import question

CODE = ("code", "coding")


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem. Raises ValueError, also for code whose tests call a function."""
    ability = str(row.get("ability") or "unknown").lower()
    source = str(row.get("data_source") or "unknown")
    extra = row.get("extra_info") if isinstance(row.get("extra_info"), dict) else {}
    assert isinstance(extra, dict)
    tags: dict[str, Any] = {"id": row_id, "domain": ability, "source": source}
    prompt = question(field(row, "prompt"), "prompt", Pictures(row, marked=True))
    if ability in CODE:
        return tags | prompt | {"verifier": "code", "tests": _tests(field(row, "reward_model.ground_truth"))}
    reference = answer(row, "reward_model.ground_truth")
    return tags | prompt | {"verifier": "math", "answer": reference} | _solution(extra.get("answer"), reference)


def _solution(text: Any, reference: str) -> dict[str, str]:
    """verl's GSM8K has the set's own `answer` here, with the worked solution; others have the bare answer once more."""
    if not isinstance(text, str) or text.strip() == reference:
        return {}
    solution = worked_solution(text) if MARK in text else text
    return {"solution": solution} if solution else {}


def _tests(truth: Any) -> list[tuple[str, str]]:
    cases = json.loads(truth) if isinstance(truth, str) else truth
    if not isinstance(cases, dict) or "inputs" not in cases or "outputs" not in cases:
        raise ValueError(f"field 'reward_model.ground_truth' is {kind(cases)}, and inputs and outputs are expected")
    if cases.get("fn_name"):
        raise ValueError(
            "tests that call a function (fn_name) are not read in verl's form, only those of stdin and stdout"
        )
    inputs, outputs = cases["inputs"], cases["outputs"]
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        raise ValueError(
            f"field 'reward_model.ground_truth' has {kind(inputs)} of inputs and {kind(outputs)} of outputs, and lists "
            "are expected"
        )
    if len(inputs) != len(outputs):
        raise ValueError(f"field 'reward_model.ground_truth' has {len(inputs)} inputs and {len(outputs)} outputs")
    return list(zip(inputs, outputs, strict=True))
