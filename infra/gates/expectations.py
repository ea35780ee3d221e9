"""Our own expectations, registered with Great Expectations beside its own.

Each says of a row not only that it breaks the rule but why; `failure_reasons` holds that while a gate is checked. What
a rule needs of the run and cannot stand in a configuration (held-out texts, a verifier's parser) it names by the
parameter's `$name`, and finds under that name: Great Expectations makes all of a rule's arguments part of its metrics'
names, and a set of 100,000 digests there takes 8 s.

Like most rules of Great Expectations, these pass over missing values.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from great_expectations.compatibility import pydantic
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnAggregateExpectation, ColumnMapExpectation
from great_expectations.expectations.metrics.column_aggregate_metric_provider import (
    ColumnAggregateMetricProvider,
    column_aggregate_value,
)
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    column_condition_partial,
)

from infra.gates.images import image_fault
from infra.gates.near_duplicates import NearDuplicates
from infra.gates.near_images import NearImages
from infra.gates.shared_runs import SharedRuns

Faults = list[str | None]
"""For each value of a column, why it breaks a rule; None where it keeps it."""


@dataclass
class Run:
    """What rules share while one gate is checked."""

    parameters: Mapping[str, Any]
    failure_reasons: dict[tuple[Any, ...], dict[int, str]] = field(default_factory=dict)
    """Why rows break a rule, by rule and row."""


running: ContextVar[Run] = ContextVar("running")
"""The check under way."""


def parameter_value(reference: str) -> Any:
    """What a `$name` stands for in the check under way."""
    return running.get().parameters[reference.removeprefix("$")]


class Whole(pydantic.ConstrainedInt):
    """A whole number from 1; 2.5 is not taken for 2, nor "3" for 3."""

    strict = True
    ge = 1


class RowExpectation(ColumnMapExpectation):
    """A custom rule about the rows of one column."""

    references: ClassVar[dict[str, str]] = {}
    """Kind of parameter, by the argument that names one."""

    @property
    def why(self) -> tuple[Any, ...]:
        """Under what `failure_reasons` keeps this rule's faults."""
        keys = [key for key in self.success_keys if key != "mostly"]
        return (self.map_metric, self.column, *(getattr(self, key) for key in keys))


def _rows(metric: str, keys: tuple[str, ...], faults: Callable[..., Faults]) -> str:
    """Register a metric that says of each value whether it keeps a rule. Returns its name."""

    class Rows(ColumnMapMetricProvider):
        condition_metric_name = metric
        condition_value_keys = keys

        @column_condition_partial(engine=PandasExecutionEngine)
        def _pandas(cls: Any, column: pd.Series, _metrics: Any = None, **values: Any) -> pd.Series:
            row_faults = faults(list(column), **values)
            key = (metric, column.name, *(values[key] for key in keys))
            numbered = zip(column.index, row_faults, strict=True)
            running.get().failure_reasons[key] = {int(row): fault for row, fault in numbered if fault is not None}
            return pd.Series([fault is None for fault in row_faults], index=column.index, dtype=bool)

    return metric


def _not_held_out(digests: Sequence[str], held_out: str) -> Faults:
    taken = parameter_value(held_out)
    return ["it is held out" if digest in taken else None for digest in digests]


class ExpectColumnValuesToNotBeHeldOut(RowExpectation):
    """No digest of the column is among those of what models are evaluated on."""

    held_out: str

    map_metric: ClassVar[str] = _rows("column_values.not_held_out", ("held_out",), _not_held_out)
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "held_out")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "held_out")
    references: ClassVar[dict[str, str]] = {"held_out": "digests"}


def _not_nearly(texts: Sequence[str], held_out: str, threshold: float, words: int, same_numbers: bool) -> Faults:
    twins = NearDuplicates(parameter_value(held_out), threshold, words, same_numbers).find(texts)
    return [None if twin is None else f"{twin.similarity:.0%} like {twin.name!r}" for twin in twins]


class ExpectColumnValuesToNotNearlyBeHeldOut(RowExpectation):
    """No text of the column nearly repeats one that models are evaluated on (infra/gates/near_duplicates.py)."""

    held_out: str
    threshold: float = pydantic.Field(0.8, gt=0, le=1)
    words: Whole = Whole(3)
    same_numbers: pydantic.StrictBool = False

    map_metric: ClassVar[str] = _rows(
        "column_values.not_nearly_held_out", ("held_out", "threshold", "words", "same_numbers"), _not_nearly
    )
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "held_out", "threshold", "words", "same_numbers")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "held_out", "threshold", "words", "same_numbers")
    references: ClassVar[dict[str, str]] = {"held_out": "texts"}


def _no_shared_run(texts: Sequence[str], held_out: str, words: int) -> Faults:
    return [
        None if match is None else f"shares {words} words in a row with {match[0]!r}: {match[1]}"
        for match in SharedRuns(parameter_value(held_out), words).find(texts)
    ]


class ExpectColumnValuesToShareNoRunOfWordsWithHeldOut(RowExpectation):
    """No text of the column has so many consecutive words of one that models are evaluated on."""

    held_out: str
    words: Whole = Whole(13)

    map_metric: ClassVar[str] = _rows("column_values.no_shared_run", ("held_out", "words"), _no_shared_run)
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "held_out", "words")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "held_out", "words")
    references: ClassVar[dict[str, str]] = {"held_out": "texts"}


def _token_lengths(counts: Sequence[Any], min_value: int, max_value: int | None) -> Faults:
    def fault(count: Any) -> str | None:
        if not float(count).is_integer():
            return f"{count} is not a number of tokens"
        if count < min_value:
            return f"{int(count)} tokens, {min_value - int(count)} too few"
        if max_value is not None and count > max_value:
            return f"{int(count)} tokens, {int(count) - max_value} too many"
        return None

    return [fault(count) for count in counts]


class ExpectColumnTokenLengthsToBeBetween(RowExpectation):
    """Each number of tokens lies between two bounds, both allowed."""

    min_value: Whole = Whole(1)
    max_value: Whole | None = None

    map_metric: ClassVar[str] = _rows("column_values.token_lengths", ("min_value", "max_value"), _token_lengths)
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "min_value", "max_value")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "min_value", "max_value")


def _parse(values: Sequence[Any], parser: str) -> Faults:
    fault = parameter_value(parser)
    return [fault(value) for value in values]


class ExpectColumnValuesToParse(RowExpectation):
    """Each value is one that a parser of the run can read."""

    parser: str

    map_metric: ClassVar[str] = _rows("column_values.parse", ("parser",), _parse)
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "parser")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "parser")
    references: ClassVar[dict[str, str]] = {"parser": "parser"}


def _images(values: Sequence[Any], folder: str, max_bytes: int, max_pixels: int) -> Faults:
    def fault(images: Any) -> str | None:
        addresses: Iterable[str] = [images] if isinstance(images, str) else images
        for place, address in enumerate(addresses, 1):
            reason = image_fault(address, parameter_value(folder), max_bytes, max_pixels)
            if reason is not None:
                return f"image {place}: {reason}"
        return None

    return [fault(images) for images in values]


def _no_near_image(values: Sequence[Any], folder: str, held_out: str) -> Faults:
    near = NearImages(parameter_value(held_out), Path(parameter_value(folder)))
    twins = [near.find([images] if isinstance(images, str) else images) for images in values]
    return [None if twin is None else f"an image nearly repeats one of {twin!r}" for twin in twins]


class ExpectColumnImagesToNotNearlyBeHeldOut(RowExpectation):
    """No image of the column nearly repeats one that models are evaluated on (infra/gates/near_images.py)."""

    folder: str
    held_out: str

    map_metric: ClassVar[str] = _rows("column_values.no_near_image", ("folder", "held_out"), _no_near_image)
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "folder", "held_out")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "folder", "held_out")
    references: ClassVar[dict[str, str]] = {"folder": "folder", "held_out": "images"}


class ExpectColumnImagesToDecode(RowExpectation):
    """Each image that the column names can be decoded (infra/gates/images.py). A value is an address or several."""

    folder: str
    max_bytes: Whole = Whole(20_000_000)
    max_pixels: Whole = Whole(50_000_000)

    map_metric: ClassVar[str] = _rows("column_values.images", ("folder", "max_bytes", "max_pixels"), _images)
    success_keys: ClassVar[tuple[str, ...]] = ("mostly", "folder", "max_bytes", "max_pixels")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "folder", "max_bytes", "max_pixels")
    references: ClassVar[dict[str, str]] = {"folder": "folder"}


class _TagShares(ColumnAggregateMetricProvider):
    metric_name = "column.tag_shares"

    @column_aggregate_value(engine=PandasExecutionEngine)
    def _pandas(cls: Any, column: pd.Series, **_: Any) -> dict[str, float]:
        tags = [str(tag) for value in column for tag in ([value] if not isinstance(value, tuple | list) else value)]
        return {tag: count / len(column) for tag, count in Counter(tags).most_common()}


class ExpectColumnTagSharesToBeBetween(ColumnAggregateExpectation):
    """No tag stands on more, or on fewer, than a share of the rows. A value is a tag or several.

    With `tags`, these are looked at, and a tag of them that no row has has the share 0; otherwise those that occur.
    """

    min_share: float = pydantic.Field(0.0, ge=0, le=1)
    max_share: float = pydantic.Field(1.0, ge=0, le=1)
    tags: list[str] | None = None

    metric_dependencies = ("column.tag_shares",)
    success_keys: ClassVar[tuple[str, ...]] = ("min_share", "max_share", "tags")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "min_share", "max_share", "tags")
    references: ClassVar[dict[str, str]] = {}

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        shares: dict[str, float] = metrics["column.tag_shares"]
        if self.tags is not None:
            shares = {tag: shares.get(tag, 0.0) for tag in self.tags}
        # The slack is for rounding: 0.1 + 0.2 is more than 0.3.
        bad = {t: s for t, s in shares.items() if not self.min_share - 1e-9 <= s <= self.max_share + 1e-9}
        observed = ", ".join(f"{tag} {share:.1%}" for tag, share in (bad or shares).items())
        return {"success": not bad, "result": {"observed_value": observed}}


CUSTOM = (
    ExpectColumnValuesToNotBeHeldOut,
    ExpectColumnValuesToNotNearlyBeHeldOut,
    ExpectColumnValuesToShareNoRunOfWordsWithHeldOut,
    ExpectColumnTokenLengthsToBeBetween,
    ExpectColumnValuesToParse,
    ExpectColumnImagesToDecode,
    ExpectColumnImagesToNotNearlyBeHeldOut,
    ExpectColumnTagSharesToBeBetween,
)
