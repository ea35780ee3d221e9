"""EasyR1's rows, as Geometry3K (hiyouga/geometry3k) has them: `problem` with `<image>` marks, `images` and `answer`."""

from typing import Any

from steps.data_formats.fields import Row, answer, text
from steps.data_formats.pictures import pictured


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem. Raises ValueError."""
    return {
        "id": row_id,
        "prompt": pictured(row, text(row, "problem"), marked=True),
        "answer": answer(row, "answer"),
        "verifier": "math",
        "domain": "math",
    }
