"""Pairs of `prompt` and `completion`: texts, or lists of turns as TRL has them."""

from typing import Any

from steps.data_formats.fields import Row, field, tags, text
from steps.data_formats.pictures import Pictures, pictured
from steps.data_formats.turns import conversation, turns


def example(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of an example. Raises ValueError."""
    prompt = field(row, "prompt")
    if isinstance(prompt, str):
        return {"problem_id": row_id, "prompt": pictured(row, prompt), "response": text(row, "completion"), **tags(row)}
    completion = field(row, "completion")
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    whole = [*prompt, *completion] if isinstance(prompt, list) and isinstance(completion, list) else prompt
    return {
        "problem_id": row_id,
        **conversation(turns(whole, "prompt and completion", Pictures(row)), "completion"),
        **tags(row),
    }
