"""GSM8K (openai/gsm8k; MIT): `question`, and `answer` with a worked solution and, after ####, the answer."""

import re
from typing import Any

from steps.data_formats.fields import Row, text

MARK = "####"
_CALCULATOR = re.compile(r"<<.*?>>")


def worked_solution(whole: str) -> str:
    """What stands before the last ####, without the marks of a calculator."""
    return _CALCULATOR.sub("", whole.rpartition(MARK)[0]).strip()


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem, without the marks of a calculator in the solution. Raises ValueError."""
    whole = text(row, "answer")
    _, mark, answer = whole.rpartition(MARK)
    if not mark:
        raise ValueError("field 'answer' has no '####' before the final answer")
    return {
        "id": row_id,
        "prompt": text(row, "question"),
        "answer": answer.strip().replace(",", ""),
        "verifier": "math",
        "solution": worked_solution(whole),
        "domain": "math",
        "discipline": "grade-school arithmetic",
        "source": "openai/grade-school-math (GSM8K)",
        "licence": "MIT",
    }
