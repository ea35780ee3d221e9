"""The rows of one source, as problems or examples, each with its place: what data sets and benchmarks are read by."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra.store.source import Source
from steps.configs.data_source import PROBLEMS, Format, Role, SourceConfig
from steps.data_files.read import NumberedRow, read_file
from steps.data_formats.mapping import mapped
from steps.data_formats.registry import Convert, converter
from steps.problem import Example, MalformedRow, Problem, invalid
from steps.row_images import RowImages

Read = Problem | Example


def read_source(
    source: Source, config: SourceConfig, role: Role, images: RowImages | None = None, files: Path | None = None
) -> Iterator[tuple[str, Read | MalformedRow]]:
    """Rows of one source in order, each with its place, and instead of those that cannot be read, why.

    Args:
        images: where the rows' images go; None: rows with images cannot be read.
        files: the folder in which image files lie.

    Raises MalformedRow for a file that cannot be read.
    """
    convert = _convert(config, role)
    model: type[Read] = Problem if role in PROBLEMS else Example
    for number, (place, row) in enumerate(_numbered(source), 1):
        if isinstance(row, MalformedRow):
            yield place, row
            continue
        # In a single file a row is found by its line.
        line = number if source.files else int(place.rsplit(":", 1)[-1])
        try:
            read = model.model_validate({**convert(row, f"{config.name}-{line}"), **config.values})
            yield place, _seen(read, images, files)
        except ValueError as error:
            yield place, MalformedRow(f"{place}: {invalid(error)}")
        except (KeyError, TypeError, AttributeError) as error:
            yield place, MalformedRow(f"{place}: not a row of this format ({type(error).__name__}: {error})")


def _seen(row: Read, images: RowImages | None, files: Path | None) -> Read:
    if images is not None:
        return images.read(row, files)
    if row.images:
        raise ValueError("its prompt has an image, and text alone is read here: leave the row out")
    return row


def _convert(config: SourceConfig, role: Role) -> Convert:
    kind, own_id = ("problem", "id") if role in PROBLEMS else ("example", "problem_id")
    if config.mapping is not None:
        names = config.mapping
        return lambda row, row_id: mapped(row, names, {own_id: row_id})
    convert = converter(config.format, kind)
    assert convert is not None
    return convert


def _numbered(source: Source) -> Iterator[tuple[str, dict[str, Any] | MalformedRow]]:
    """Each row with its place: file and number."""
    files: Sequence[tuple[Path, str]] = [(source.path, source.address)]
    if source.files:
        files = [(source.path / name, f"{source.address}/{name}") for name in source.files]
    for path, name in files:
        numbered: Iterator[NumberedRow] = read_file(path, name)
        for number, row in numbered:
            yield f"{name}:{number}", row


def problems_of(path: Path, form: Format) -> list[Problem]:
    """The problems of a file in one of the formats. Raises MalformedRow."""
    problems = []
    for _, row in read_source(Source(path, str(path)), SourceConfig(path=str(path), format=form), "train"):
        if isinstance(row, MalformedRow):
            raise row
        assert isinstance(row, Problem)
        problems.append(row)
    return problems
