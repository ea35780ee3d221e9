"""Write docs/configuration.md: every key of a recipe with its type, default, bounds and meaning, from the types.

python -m scripts.configuration_reference
"""

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo

from steps.configs.case_generation import CaseGenerationConfig
from steps.recipe import Recipe

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

_INTRODUCTION = """\
# Configuration

A recipe is a YAML file, as in `configs/`. This page lists its keys by section. It is written by
`python -m scripts.configuration_reference` from the types in `steps/recipe.py`, `steps/configs/` and `infra/`; a test
checks that it is current. A key that is not listed, that stands twice, or whose value cannot work is refused before
anything runs, with its name. `--set KEY=VALUE` sets a key for one run, as in `--set rl.tau=0.2`.
"""

_COMMAND = """\
## Test cases

Settings of `longhaul test-cases`, which `--set KEY=VALUE` changes. They are not part of a recipe.
"""

_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Each mapping of a recipe by its dotted key ('' is the file), parents first. A type comes once, where it is first
    used."""
    seen: set[type[BaseModel]] = set()
    waiting: list[tuple[str, type[BaseModel]]] = [("", Recipe)]
    while waiting:
        key, model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield key, model
        inside = [
            (f"{key}.{name}".lstrip("."), part)
            for name, field in model.model_fields.items()
            for part in _models(field.annotation)
        ]
        waiting = inside + waiting


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The types of the mappings within an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not issubclass(annotation, RootModel):
            yield annotation
        return
    for argument in dict.fromkeys(get_args(annotation)):
        yield from _models(argument)


def _type(annotation: Any, places: dict[type[BaseModel], str]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], places)
    if origin is Literal:
        return " or ".join(f"`{json.dumps(one).strip(chr(34))}`" for one in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one, places) for one in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return " and ".join(dict.fromkeys(f"{arguments.count(one)} × {_type(one, places)}" for one in arguments))
    if origin in (tuple, list, set, frozenset):
        return f"list of {_type(arguments[0], places)}"
    if origin is dict:
        return f"mapping to {_type(arguments[1], places)}"
    if annotation in places:
        return f"[{places[annotation]}](#{places[annotation].replace('.', '')})"
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _type(annotation.model_fields["root"].annotation, places)
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> str:
    """What a value must keep to."""
    said = []
    for rule in field.metadata:
        match rule:
            case annotated_types.Ge():
                said.append(f"≥ {rule.ge}")
            case annotated_types.Gt():
                said.append(f"> {rule.gt}")
            case annotated_types.Le():
                said.append(f"≤ {rule.le}")
            case annotated_types.Lt():
                said.append(f"< {rule.lt}")
    return ", ".join(said)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "see there"
    value = field.default
    if isinstance(value, BaseModel):
        return "its defaults" if value == type(value).model_construct() else _changed(value)
    if isinstance(value, tuple):
        value = list(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _changed(value: BaseModel) -> str:
    """A mapping's values where they are not its type's own defaults."""
    fields = type(value).model_fields
    parts = {name: one for name, one in value.model_dump().items() if one != fields[name].default}
    return (
        "`" + ", ".join(f"{name}: {json.dumps(one)}" for name, one in parts.items()) + "`" if parts else "its defaults"
    )


def undescribed() -> list[str]:
    """Keys without a description."""
    models: list[tuple[str, type[BaseModel]]] = [*sections(), ("test cases", CaseGenerationConfig)]
    return [
        f"{key}.{name}".lstrip(".")
        for key, model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]


def render() -> str:
    """The document."""
    places = {model: key for key, model in sections()}
    lines = [_INTRODUCTION]
    for key, model in sections():
        summary = " ".join((model.__doc__ or "").split("\n\n")[0].split())
        lines += [f"## {key or 'The file'}", "", summary, "", *_table(model, places), ""]
    return "\n".join([*lines, _COMMAND, *_table(CaseGenerationConfig, places), ""])


def _table(model: type[BaseModel], places: dict[type[BaseModel], str]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        kind = ", ".join(filter(None, (_type(field.annotation, places), _bounds(field))))
        cells = (f"`{name}`", kind, _default(field), field.description or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
