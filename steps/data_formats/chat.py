"""Chat rows: `messages` (OpenAI's, TRL's) or `conversations` (ShareGPT's). All turns of the assistant are learned."""

from typing import Any

from steps.data_formats.fields import Row, field, tags
from steps.data_formats.pictures import Pictures
from steps.data_formats.turns import conversation, turns


def example(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of an example. Raises ValueError."""
    name = "conversations" if "conversations" in row and "messages" not in row else "messages"
    pictures = Pictures(row, marked=True)
    return {"problem_id": row_id, **conversation(turns(field(row, name), name, pictures), name), **tags(row)}
