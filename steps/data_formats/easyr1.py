"""EasyR1's rows: `problem` and `answer`, with `images` that text recipes have no use for."""

from typing import Any

from steps.data_formats.fields import Row, answer, no_images, text


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem. Raises ValueError, also for a row with images."""
    no_images(row, "images", "videos")
    return {
        "id": row_id,
        "prompt": text(row, "problem"),
        "answer": answer(row, "answer"),
        "verifier": "math",
        "domain": "math",
    }
