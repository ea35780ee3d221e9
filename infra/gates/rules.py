"""Rules built by name: which of Great Expectations' there are here, and what arguments they take.

NOTE: loads Great Expectations, which takes some seconds.
"""

from difflib import get_close_matches
from typing import Any

import great_expectations.expectations as gxe
from great_expectations.compatibility.pydantic import ValidationError
from great_expectations.expectations import Expectation

from infra.gates.errors import SuiteRefused
from infra.gates.expectations import CUSTOM

_NEED_A_DATABASE = {
    "expect_query_results_to_match_comparison",
    "expect_table_row_count_to_equal_other_table",
    "unexpected_rows_expectation",
}
_NOT_ARGUMENTS = {
    "batch_id",
    "catch_exceptions",
    "description",
    "id",
    "meta",
    "notes",
    "rendered_content",
    "result_format",
    "severity",
    "windows",
    # pandas would run a string condition as code; a column without the other rows does the same.
    "condition_parser",
    "row_condition",
}
"""Fields that are how Great Expectations runs a rule, and not what the rule says."""


def _classes() -> dict[str, type[Expectation]]:
    theirs = [getattr(gxe, name) for name in dir(gxe) if name.startswith("Expect")]
    named = {each.expectation_type: each for each in (*theirs, *CUSTOM) if not each.is_abstract()}
    return {name: each for name, each in sorted(named.items()) if name not in _NEED_A_DATABASE}


CLASSES = _classes()
"""The expectations that there are, by their names in snake case."""


def arguments(expectation: type[Expectation]) -> list[str]:
    """The names of what an expectation takes."""
    return sorted(set(expectation.__fields__) - _NOT_ARGUMENTS)


def expectation_class(name: str, where: str) -> type[Expectation]:
    """The expectation of a name in snake case. Raises SuiteRefused, which begins with `where`."""
    if name in CLASSES:
        return CLASSES[name]
    if name in _NEED_A_DATABASE:
        raise SuiteRefused(f"{where}: type: {name} asks a database, and gates check tables in memory")
    close = get_close_matches(name, CLASSES, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(CLASSES)}"
    raise SuiteRefused(f"{where}: type: there is no expectation {name!r}; {hint}")


def build(name: str, kwargs: dict[str, Any], description: str | None, where: str) -> Expectation:
    """An expectation from its name and arguments. Raises SuiteRefused naming the argument."""
    expectation = expectation_class(name, where)
    known = arguments(expectation)
    for key in kwargs:
        if key not in known:
            raise SuiteRefused(f"{where}: kwargs: {key!r} is not an argument of {name}; it takes: {', '.join(known)}")
    try:
        return expectation(**kwargs, description=description)
    except (ValidationError, ValueError, TypeError) as error:
        problems = error.errors() if isinstance(error, ValidationError) else []
        details = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in problems]
        raise SuiteRefused(f"{where}: kwargs: {'; '.join(details) or error}") from error
