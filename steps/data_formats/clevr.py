"""CLEVR: `question`, `answer` and `image_filename` or `image`; or `problem` and `solution` with <answer> inside."""

import re
from typing import Any

from steps.data_formats.fields import Row, answer, tags, text
from steps.data_formats.pictures import pictured

_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem. Raises ValueError."""
    question, stated = ("question", "answer") if "question" in row else ("problem", "solution")
    reference = answer(row, stated)
    tagged = _ANSWER.search(reference)
    return {
        "id": row_id,
        "prompt": pictured(row, text(row, question), "image", "images", "image_filename"),
        "answer": tagged[1] if tagged else reference,
        "verifier": "math",
        "domain": "scenes",
        **tags(row),
    }
