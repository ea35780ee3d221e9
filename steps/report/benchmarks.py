"""Results of public benchmarks as a table's rows, for the pages and the model card."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BenchmarkRow:
    """A model on a benchmark."""

    label: str
    """The stage, or what the page calls the model."""
    title: str
    accuracy: float
    low: float
    high: float
    most: int
    """The k of the two figures that follow: all responses to a problem."""
    pass_at: float | None
    majority_at: float | None
    mean_tokens: float
    problems: int
    samples: int
    as_published: bool | None


def benchmark_rows(figures: Iterable[tuple[str, Mapping[str, Any]]]) -> list[BenchmarkRow]:
    """Rows by benchmark, then by model, given each model's label and evaluation as plain data."""
    rows = []
    for label, evaluation in figures:
        results = evaluation.get("benchmarks")
        for result in results.values() if isinstance(results, Mapping) else ():
            # In JSON, the keys of these are texts.
            passes, majorities = ({int(k): v for k, v in result[name].items()} for name in ("pass_at", "majority_at"))
            most = max(passes, default=result["samples"])
            rows.append(
                BenchmarkRow(
                    label=label,
                    title=result["title"],
                    most=most,
                    pass_at=passes.get(most),
                    majority_at=majorities.get(most),
                    **{
                        name: result[name]
                        for name in ("accuracy", "low", "high", "mean_tokens", "problems", "samples", "as_published")
                    },
                )
            )
    titles = list(dict.fromkeys(row.title for row in rows))
    return sorted(rows, key=lambda row: titles.index(row.title))
