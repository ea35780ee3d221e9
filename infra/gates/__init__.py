"""Data gates: rules that a table must keep before and after a stage, checked with Great Expectations on DataFrames.

Three invariants:
- A rule of severity `stop` that does not hold stops its stage: GateFailed names the gate, the rule and the rows. One of
  severity `warn` is recorded and told.
- A rule that cannot be evaluated (a column holds other types) does not hold; it is never skipped.
- Nothing leaves the machine.

The rules are data (suites.py); evaluate.py checks them, ours.py adds rules to Great Expectations' own, page.py shows
what was found. Only who shows it imports page.py: every stage reaches this module, and how a page looks must not
change a stage's key.

NOTE: most row rules of Great Expectations, and all of ours, pass over missing values. Where a value must be there, ask
for expect_column_values_to_not_be_null beside the rule.
"""

from infra.gates.evaluate import check
from infra.gates.result import GateFailed, GateResult, Outcome, Severity
from infra.gates.suites import Suite, SuiteRefused, Table

__all__ = [
    "GateFailed",
    "GateResult",
    "Outcome",
    "Severity",
    "Suite",
    "SuiteRefused",
    "Table",
    "check",
]
