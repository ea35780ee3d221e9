"""TRL's rows for GRPO: `prompt` (text or turns), and the answer as `answer`, `ground_truth` or `solution`."""

from typing import Any

from steps.data_formats.fields import Row, answer, field
from steps.data_formats.pictures import Pictures
from steps.data_formats.turns import question
from steps.rewards.score import boxed_answer

ANSWERS = ("answer", "ground_truth", "solution")


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem; of a `solution` with a box, the box's content is the answer. Raises ValueError."""
    prompt = question(field(row, "prompt"), "prompt", Pictures(row))
    column = next((name for name in ANSWERS if row.get(name) is not None), None)
    if column is None:
        raise ValueError(f"there is no answer, in none of {', '.join(ANSWERS)}; there are {', '.join(row)}")
    stated = answer(row, column)
    solution = row.get("solution")
    tags = {"solution": solution} if isinstance(solution, str) and _is_worked(solution, column) else {}
    return {
        "id": row_id,
        **prompt,
        "answer": boxed_answer(stated) or stated,
        "verifier": "math",
        "domain": "math",
        **tags,
    }


def _is_worked(solution: str, column: str) -> bool:
    """Whether there is more in it than the answer, from which alone no reasoning is learned."""
    if column != "solution":
        return bool(solution.strip())
    boxed = boxed_answer(solution)
    return boxed is not None and len(solution.split()) > len(boxed.split())
