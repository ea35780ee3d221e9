"""MATH (hendrycks/math) and its like, as MATH-500: `problem`, and `solution` with the answer in a box, or `answer`.

Many sets have this form, so that source and licence are those that a row states; a recipe's `values` may set them.
"""

import re
from typing import Any

from steps.data_formats.fields import Row, answer, optional, tags, text
from steps.rewards.score import boxed_answer

LEVEL = re.compile(r"(?:Level )?([1-5])")


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem; the answer is the field `answer`, or else the last box. Raises ValueError."""
    solution = optional(row, "solution")
    if row.get("answer") is not None:
        boxed: str | None = answer(row, "answer")
    else:
        boxed = boxed_answer(text(row, "solution"))
    if boxed is None:
        raise ValueError("field 'solution' has no \\boxed{} with the answer, and there is no field 'answer'")
    level = LEVEL.fullmatch(str(row.get("level", "")))
    return {
        "id": str(row.get("unique_id") or row_id),
        "prompt": text(row, "problem"),
        "answer": boxed,
        "verifier": "math",
        **({"solution": solution} if solution else {}),
        "domain": "math",
        "discipline": str(row.get("type") or row.get("subject") or "unknown"),
        "difficulty": int(level[1]) if level else 0,
        **tags(row),
    }
