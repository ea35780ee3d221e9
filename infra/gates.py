"""Data gates: rules that a table must keep before a stage uses it, checked with Great Expectations on DataFrames.

Three invariants:
- A gate that fails stops its stage: `check` raises GateFailed, which names the gate, the rule and the rows.
- A rule that cannot be evaluated (a column is missing, or holds other types) has failed; it is never skipped.
- Nothing leaves the machine: the context is ephemeral, and pages are rendered here, because Great Expectations' own
  Data Docs pull style sheets from the web.

NOTE: most row rules of Great Expectations pass over missing values. Where a value must be there, ask for
ExpectColumnValuesToNotBeNull beside the rule, as the ready-made gates below do.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from jinja2 import Environment

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

EXAMPLES_PER_CHECK = 5
EXAMPLE_CHARACTERS = 200


class GateFailed(RuntimeError):
    """A table broke a rule; the message names gate, rule, number of rows and the first rows' ids.

    The whole `result` is kept for the stage's record.
    """

    result: "GateResult"


@dataclass(frozen=True)
class GateResult:
    """What a gate found; `dataclasses.asdict` of it is plain JSON.

    Each of `checks` holds `expectation` (Great Expectations' name of the rule), `column`, `rule` (in words), `success`,
    `unexpected` (number of rows that broke it; None for a rule about the whole table or one not evaluated), `examples`
    (up to 5 of those rows: `row`, counted from 0, `id`, `value`), `observed` (what a rule about the whole table found)
    and `error` (why the rule could not be evaluated, otherwise None).
    """

    gate: str
    passed: bool
    rows: int
    checks: list[dict[str, Any]]


def check(gate: str, frame: pd.DataFrame, expectations: "Sequence[Expectation]", row_name: str = "id") -> GateResult:
    """Check a table against Great Expectations' rules, in their order.

    `row_name` is the column that names rows in messages; in a table without it, rows go by their number from 0.
    Raises GateFailed unless every rule holds.
    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

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
        for position, expectation in enumerate(expectations)
    ]
    try:
        batch = context.data_sources.pandas_default.read_dataframe(table)
        outcome = batch.validate(
            gx.ExpectationSuite(name=gate, expectations=numbered),
            # SUMMARY holds the first few unexpected rows; COMPLETE would hold all of them.
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES_PER_CHECK},
        )
    finally:
        # The library keeps its latest context for the life of the process, and that context would keep the table.
        for source in list(context.data_sources.all()):
            context.data_sources.delete(source)
    configs = [(result, cast("ExpectationConfiguration", result.expectation_config)) for result in outcome.results]
    configs.sort(key=lambda pair: pair[1].meta["position"])
    checks = [_checked(result, config, table, row_name) for result, config in configs]
    found = GateResult(gate, all(each["success"] for each in checks), len(table), checks)
    if not found.passed:
        error = GateFailed(_complaint(found))
        error.result = found
        raise error
    return found


def problems_gate(
    name: str,
    frame: pd.DataFrame,
    held_out_digests: Set[str] = frozenset(),
    verifiers: Collection[str] = ("math", "code"),
) -> GateResult:
    """A prompt set: columns `id`, `text`, `verifier`, `difficulty` (0 to 5) and `digest` (of the normalised text).

    No two rows share an id or a digest, and no row's digest is among `held_out_digests`: a problem that a model is
    evaluated on must not be trained on. Raises GateFailed.
    """
    import great_expectations.expectations as gxe

    table = frame
    if "digest" in frame:
        # A rule "not in this set" takes 8 s for 100,000 held-out digests, because the set becomes part of every
        # metric's name. So the overlap is a column, and the rule is that it is empty.
        overlap = [digest if digest in held_out_digests else None for digest in frame["digest"]]
        table = frame.assign(held_out_digest=pd.Series(overlap, index=frame.index, dtype=object))
    return check(
        name,
        table,
        [
            _some_rows(),
            _present("id"),
            gxe.ExpectColumnValuesToBeUnique(column="id", description="no two rows share an id"),
            *_not_empty("text"),
            _present("verifier"),
            gxe.ExpectColumnValuesToBeInSet(
                column="verifier",
                value_set=sorted(verifiers),
                description=f"the verifier is one of {', '.join(sorted(verifiers))}",
            ),
            *_between("difficulty", 0, 5),
            _present("digest"),
            gxe.ExpectColumnValuesToBeUnique(column="digest", description="no two rows have the same normalised text"),
            gxe.ExpectColumnValuesToBeNull(
                column="held_out_digest",
                description=f"no row is among the {len(held_out_digests)} held-out problems",
            ),
        ],
    )


def examples_gate(name: str, frame: pd.DataFrame, max_tokens: int) -> GateResult:
    """Supervised examples: columns `prompt`, `response` and `tokens`, the length of both together in tokens.

    Raises GateFailed, also for an example longer than `max_tokens`: cut short, it would teach to stop early.
    """
    return check(
        name,
        frame,
        [_some_rows(), *_not_empty("prompt"), *_not_empty("response"), *_between("tokens", 1, max_tokens)],
    )


def preferences_gate(name: str, frame: pd.DataFrame) -> GateResult:
    """Preference pairs: columns `chosen` and `rejected`, which differ. Raises GateFailed."""
    import great_expectations.expectations as gxe

    return check(
        name,
        frame,
        [
            _some_rows(),
            *_not_empty("chosen"),
            *_not_empty("rejected"),
            gxe.ExpectSelectColumnValuesToBeUniqueWithinRecord(
                column_list=["chosen", "rejected"], description="the chosen response is not the rejected one"
            ),
        ],
    )


def _some_rows() -> "Expectation":
    import great_expectations.expectations as gxe

    return gxe.ExpectTableRowCountToBeBetween(min_value=1, description="there is at least one row")


def _present(column: str) -> "Expectation":
    import great_expectations.expectations as gxe

    return gxe.ExpectColumnValuesToNotBeNull(column=column, description=f"{column} is never missing")


def _not_empty(column: str) -> "list[Expectation]":
    import great_expectations.expectations as gxe

    return [
        _present(column),
        gxe.ExpectColumnValuesToMatchRegex(column=column, regex=r"\S", description=f"{column} is not blank"),
    ]


def _between(column: str, least: float, most: float) -> "list[Expectation]":
    import great_expectations.expectations as gxe

    return [
        _present(column),
        gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=least, max_value=most, description=f"{column} lies between {least} and {most}"
        ),
    ]


def _checked(result: Any, config: "ExpectationConfiguration", table: pd.DataFrame, row_name: str) -> dict[str, Any]:
    details: Mapping[str, Any] = result.result
    rows = details.get("partial_unexpected_index_list") or []
    values = details.get("partial_unexpected_list") or []
    columns = config.kwargs.get("column") or ", ".join(config.kwargs.get("column_list", ()))
    return {
        "expectation": config.type,
        "column": columns,
        "rule": config.description or f"{config.type}({columns})",
        "success": bool(result.success),
        "unexpected": details.get("unexpected_count"),
        "examples": [
            {
                "row": int(row),
                "id": _plain(table[row_name].iloc[row] if row_name in table else int(row)),
                "value": _plain(value),
            }
            for row, value in list(zip(rows, values, strict=False))[:EXAMPLES_PER_CHECK]
        ],
        "observed": _plain(details.get("observed_value")),
        "error": _error(result.exception_info),
    }


def _plain(value: Any) -> Any:
    """A value as strict JSON can hold it; long and foreign ones become the start of their text."""
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


def _complaint(result: GateResult) -> str:
    lines = []
    for each in result.checks:
        if each["success"]:
            continue
        rule = f"{each['rule']} ({each['expectation']})"
        if each["error"] is not None:
            lines.append(f"{rule}: cannot be evaluated: {each['error']}")
        elif each["unexpected"] is None:
            lines.append(f"{rule}: found {each['observed']!r}")
        else:
            named = ", ".join(repr(example["id"]) for example in each["examples"])
            more = ", …" if each["unexpected"] > len(each["examples"]) else ""
            lines.append(f"{rule}: {each['unexpected']} of {result.rows} rows, ids {named}{more}")
    return f"gate {result.gate!r} failed: " + "; ".join(lines)


_PAGE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<section class="gates">
<style>
.gates { font: 14px/1.5 system-ui, sans-serif; }
.gates table { border-collapse: collapse; width: 100%; margin-bottom: 1.5em; }
.gates th, .gates td { border-bottom: 1px solid #ddd; padding: .25em .75em; text-align: left; vertical-align: top; }
.gates .passed { color: #1a7f37; }
.gates .failed { color: #b42318; }
.gates code { overflow-wrap: anywhere; }
</style>
{% for result in results %}
<h3>{{ result.gate }}: <span class="{{ 'passed' if result.passed else 'failed' }}">
{{- 'passed' if result.passed else 'failed' }}</span>, {{ result.rows }} rows</h3>
<table>
<tr><th scope="col">Rule</th><th scope="col">Column</th><th scope="col">Result</th><th scope="col">Found</th></tr>
{% for check in result.checks %}
<tr>
<td title="{{ check.expectation }}">{{ check.rule }}</td>
<td>{{ check.column }}</td>
<td class="{{ 'passed' if check.success else 'failed' }}">{{ 'passed' if check.success else 'failed' }}</td>
<td>
{%- if check.error is not none %}{{ check.error }}
{%- elif check.unexpected is none %}{{ check.observed if check.observed is not none }}
{%- else %}{{ check.unexpected }} broke it
{%- for example in check.examples %}<br><code>{{ example.id }}: {{ example.value }}</code>
{%- endfor %}
{%- endif %}</td>
</tr>
{% endfor %}
</table>
{% else %}
<p>No gate has run.</p>
{% endfor %}
</section>
""")


def render_html(results: Sequence[GateResult]) -> str:
    """Gate results as one HTML section that needs no other file. Every text from the data is escaped."""
    return _PAGE.render(results=results)
