"""HumanEval (openai/openai_humaneval; MIT): a function's head to complete, and tests that call it."""

from typing import Any

from steps.data_formats.fields import Row, text


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem. Raises ValueError."""
    code = text(row, "prompt")
    return {
        "id": text(row, "task_id"),
        "prompt": f"Complete this Python function. Give the whole program.\n```python\n{code.rstrip()}\n```",
        "verifier": "code",
        "function": {"entry_point": text(row, "entry_point"), "check": text(row, "test"), "setup": code},
        "solution": f"```python\n{code}{text(row, 'canonical_solution').rstrip()}\n```",
        "domain": "code",
        "discipline": "functions",
        "source": "openai/human-eval",
        "licence": "MIT",
    }
