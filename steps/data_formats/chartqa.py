"""ChartQA (HuggingFaceM4/ChartQA: `image`, `query`, `label`; lmms-lab/ChartQA: `image`, `question`, `answer`)."""

from typing import Any

from steps.data_formats.fields import Row, answer, field, tags, text
from steps.data_formats.pictures import pictured


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem; of several labels the only one is taken. Raises ValueError."""
    name = "label" if "label" in row else "answer"
    label = field(row, name)
    if isinstance(label, list):
        if len(label) != 1:
            raise ValueError(f"field {name!r} has {len(label)} answers, and one is expected")
        row = {**row, name: label[0]}
    return {
        "id": row_id,
        "prompt": pictured(row, text(row, "query" if "query" in row else "question"), "image"),
        "answer": answer(row, name),
        "verifier": "math",
        "domain": "charts",
        **tags(row),
    }
