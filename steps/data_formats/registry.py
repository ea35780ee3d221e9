"""All formats by their names in a recipe. A new one is a module beside this one, and a line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from steps.data_formats import chartqa, chat, clevr, easyr1, gsm8k, humaneval, math, mbpp, prompt_completion, trl, verl
from steps.data_formats.fields import Row
from steps.data_formats.pictures import PLACES, Pictures, pictured

Convert = Callable[[Row, str], dict[str, Any]]
"""From a row, and an id for rows that have none, to fields of steps/problem.py. Raises ValueError."""


@dataclass(frozen=True)
class DataFormat:
    """What rows of a format can become; None where they cannot."""

    problem: Convert | None = None
    example: Convert | None = None


def _own(name: str) -> Convert:
    def convert(row: Row, row_id: str) -> dict[str, Any]:
        fields = {name: row_id, **row}
        if isinstance(row.get("prompt"), list):
            pictures = Pictures(row)
            fields["prompt"] = pictures.finish(pictures.parts(row["prompt"], "field 'prompt'"))
        elif isinstance(row.get("prompt"), str):
            fields["prompt"] = pictured(row, row["prompt"])
        return {key: value for key, value in fields.items() if key not in PLACES}

    return convert


FORMATS: Mapping[str, DataFormat] = {
    "longhaul": DataFormat(problem=_own("id"), example=_own("problem_id")),
    "chat": DataFormat(example=chat.example),
    "prompt_completion": DataFormat(example=prompt_completion.example),
    "gsm8k": DataFormat(problem=gsm8k.problem),
    "math": DataFormat(problem=math.problem),
    "humaneval": DataFormat(problem=humaneval.problem),
    "mbpp": DataFormat(problem=mbpp.problem),
    "verl": DataFormat(problem=verl.problem),
    "easyr1": DataFormat(problem=easyr1.problem),
    "trl": DataFormat(problem=trl.problem),
    "chartqa": DataFormat(problem=chartqa.problem),
    "clevr": DataFormat(problem=clevr.problem),
}


def converter(name: str, kind: str) -> Convert | None:
    """How rows of a format become a `problem` or an `example`; None where they cannot."""
    convert: Convert | None = getattr(FORMATS[name], kind)
    return convert


def formats_of(kind: str) -> list[str]:
    """The formats whose rows can become a `problem` or an `example`."""
    return [name for name, form in FORMATS.items() if getattr(form, kind) is not None]
