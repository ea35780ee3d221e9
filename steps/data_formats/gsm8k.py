"""GSM8K (openai/gsm8k; MIT): `question`, and `answer` with a worked solution and, after ####, the answer."""

import re
from typing import Any

from steps.data_formats.fields import Row, text


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem, without the marks of a calculator in the solution. Raises ValueError."""
    solution, mark, answer = text(row, "answer").rpartition("####")
    if not mark:
        raise ValueError("field 'answer' has no '####' before the final answer")
    return {
        "id": row_id,
        "prompt": text(row, "question"),
        "answer": answer.strip().replace(",", ""),
        "verifier": "math",
        "solution": re.sub(r"<<.*?>>", "", solution).strip(),
        "domain": "math",
        "discipline": "grade-school arithmetic",
        "source": "openai/grade-school-math (GSM8K)",
        "licence": "MIT",
    }
