"""Data gates: rules that a table must keep before and after a stage, checked with Great Expectations on DataFrames.

Three invariants:
- A rule of severity `stop` that does not hold stops its stage: GateFailed names the gate, the rule and the rows. One of
  severity `warn` is recorded and reported.
- A rule that cannot be evaluated (a column holds other types) does not hold; it is never skipped.
- Nothing leaves the machine.

The rules are data (suites.py); evaluate.py checks them, expectations.py adds rules to Great Expectations' own, page.py
shows the results.

NOTE: most row rules of Great Expectations, and all of the added ones, skip missing values. Where a value is
required, add expect_column_values_to_not_be_null.
"""
