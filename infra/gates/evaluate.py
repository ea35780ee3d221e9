"""Rules checked on a table with Great Expectations.

Nothing leaves the machine: the context is ephemeral, and results become plain JSON, because Great Expectations'
own Data Docs pull style sheets from the web.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from infra.gates.result import GateResult, Severity
from infra.images import stored_digest

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations import Expectation
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

EXAMPLES_PER_CHECK = 5
EXAMPLE_CHARACTERS = 200
IMAGES_PER_EXAMPLE = 4


def check(gate: str, frame: "pd.DataFrame", expectations: "Sequence[Expectation]", row_name: str = "id") -> GateResult:
    """Check a table against Great Expectations' rules, in their order.

    `row_name` is the column that names rows in messages; in a table without it, rows go by their number from 0.
    Raises GateFailed unless every rule holds.
    """
    result = evaluate(gate, frame, [(expectation, "stop") for expectation in expectations], {}, row_name)
    result.raise_if_failed()
    return result


def evaluate(
    gate: str,
    frame: "pd.DataFrame",
    rules: "Sequence[tuple[Expectation, Severity]]",
    parameters: Mapping[str, Any],
    row_name: str = "id",
) -> GateResult:
    """What each rule finds in a table. `parameters` are what our expectations' references name."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    from infra.gates.expectations import Run, running

    # It logs a traceback for every rule that it cannot evaluate; the result holds the reason.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    # With a fresh index, the index values that come back are row numbers, whatever the caller's index was.
    table = frame.reset_index(drop=True)
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    # Results come back in another order than the rules went in, those that failed to evaluate first.
    numbered = [
        expectation.copy(update={"meta": {**(expectation.meta or {}), "position": position}})
        for position, (expectation, _) in enumerate(rules)
    ]
    run = Run(parameters)
    token = running.set(run)
    try:
        batch = context.data_sources.pandas_default.read_dataframe(table)
        outcome = batch.validate(
            gx.ExpectationSuite(name=gate, expectations=numbered),
            # SUMMARY holds the first few unexpected rows; COMPLETE would hold all of them.
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES_PER_CHECK},
        )
    finally:
        running.reset(token)
        # The library keeps its latest context for the life of the process, and that context would keep the table.
        for source in list(context.data_sources.all()):
            context.data_sources.delete(source)
    checks: list[dict[str, Any]] = [{}] * len(rules)
    for result in outcome.results:
        config = cast("ExpectationConfiguration", result.expectation_config)
        place = config.meta["position"]
        expectation, severity = rules[place]
        failure_reasons = run.failure_reasons.get(getattr(expectation, "why", ()), {})
        checks[place] = _checked(result, config, severity, table, row_name, failure_reasons)
    return GateResult.of(gate, len(table), checks)


def _checked(
    result: Any,
    config: "ExpectationConfiguration",
    severity: Severity,
    table: "pd.DataFrame",
    row_name: str,
    failure_reasons: Mapping[int, str],
) -> dict[str, Any]:
    details: Mapping[str, Any] = result.result
    rows = details.get("partial_unexpected_index_list") or []
    values = details.get("partial_unexpected_list") or []
    columns = _columns(config.kwargs)
    return {
        "expectation": config.type,
        "column": columns,
        "rule": config.description or f"{config.type}({columns})",
        "severity": severity,
        "success": bool(result.success),
        "unexpected": details.get("unexpected_count"),
        "examples": [
            {
                "row": int(row),
                "id": _plain(table[row_name].iloc[row] if row_name in table else int(row)),
                "value": _plain(value),
                "why": _plain(failure_reasons.get(int(row))),
                **_images(table, int(row)),
            }
            for row, value in list(zip(rows, values, strict=False))[:EXAMPLES_PER_CHECK]
        ],
        "observed": _plain(details.get("observed_value")),
        "error": _error(result.exception_info),
    }


def _images(table: "pd.DataFrame", row: int) -> dict[str, list[str]]:
    """The digests of a row's stored images, under `images`; nothing for a row without any."""
    addresses = table["images"].iloc[row] if "images" in table else None
    # A rule may be about a table that has something else there.
    listed = addresses if isinstance(addresses, tuple | list) else ()
    digests = [digest for address in listed if (digest := stored_digest(str(address))) is not None]
    return {"images": digests[:IMAGES_PER_EXAMPLE]} if digests else {}


def _columns(kwargs: Mapping[str, Any]) -> str:
    """The columns that a rule is about."""
    named = [kwargs.get(key) for key in ("column", "column_A", "column_B")]
    return ", ".join([*(name for name in named if name is not None), *kwargs.get("column_list", ())])


def _plain(value: Any) -> Any:
    """A value as strict JSON can hold it; long and foreign ones become the start of their text."""
    import pandas as pd

    if hasattr(value, "item"):
        value = value.item()  # numpy's scalars
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)[:EXAMPLE_CHARACTERS]


def _error(info: Mapping[str, Any]) -> str | None:
    """The first line of why a rule could not be evaluated; the library nests it under a metric's name, or does not."""
    for each in (info, *(nested for nested in info.values() if isinstance(nested, Mapping))):
        if each.get("raised_exception"):
            return str(each["exception_message"]).strip().partition("\n")[0]
    return None
