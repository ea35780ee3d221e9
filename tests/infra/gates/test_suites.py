"""Suites: what is right is read, and what is wrong is refused before anything runs, by file, gate, rule and key."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from infra.gates.errors import SuiteRefused
from infra.gates.suites import Rule, Suite, Table, check_names, check_rules, load_shared, load_suite

TABLES = {
    "prompts": Table(
        frozenset(("id", "text", "tokens")),
        {"max_tokens": "number", "held_out": "texts", "digests": "digests", "answers": "parser"},
    ),
    "paths": Table(frozenset(("id",)), {}),
}


def load(folder: Path, text: str, shared: str | None = None) -> Suite:
    (folder / "rl.yaml").write_text(text)
    if shared is not None:
        (folder / "shared.yaml").write_text(shared)
    suite = load_suite(folder / "rl.yaml", TABLES, load_shared(folder))
    check_rules(suite, TABLES, str(folder / "rl.yaml"))
    return suite


def test_a_suite_is_read_with_what_it_includes_and_runs_with_the_runs_values(tmp_path: Path) -> None:
    suite = load(
        tmp_path,
        """
prompts:
  - include: named
  - type: ExpectColumnTokenLengthsToBeBetween
    kwargs: {column: tokens, max_value: $max_tokens}
    severity: warn
    description: at most $max_tokens tokens
paths: []
""",
        "named:\n  - {type: expect_column_values_to_be_unique, kwargs: {column: id}}\n",
    )
    assert [rule.type for rule in suite.root["prompts"]] == [
        "expect_column_values_to_be_unique",
        "expect_column_token_lengths_to_be_between",
    ]
    assert "prompts" in suite and "paths" not in suite and "others" not in suite
    frame = pd.DataFrame({"id": ["a", "b"], "text": "t", "tokens": [4, 9]})
    result = suite.run("prompts", frame, {"max_tokens": 6})
    assert (result.outcome, result.checks[1]["rule"]) == ("warned", "at most 6 tokens")
    assert result.checks[1]["examples"] == [{"row": 1, "id": "b", "value": 9, "why": "9 tokens, 3 too many"}]


def test_spelling_order_and_comments_do_not_make_another_suite(tmp_path: Path) -> None:
    one = load(tmp_path, "prompts:\n  - {type: expect_column_to_exist, kwargs: {column: id}, severity: stop}\n")
    same = load(tmp_path, "# a comment\nprompts:\n- kwargs:\n    column: id\n  type: ExpectColumnToExist\n")
    assert one.model_dump_json() == same.model_dump_json()
    assert Suite.model_validate_json(one.model_dump_json()) == one
    other = load(tmp_path, "prompts:\n  - {type: expect_column_to_exist, kwargs: {column: id}, severity: warn}\n")
    assert other.model_dump_json() != one.model_dump_json()


def test_every_expectation_is_known_by_both_its_names() -> None:
    import great_expectations.expectations as gxe

    from infra.gates.rules import CLASSES

    assert len(CLASSES) > 55
    for name, expectation in CLASSES.items():
        assert Rule(type=expectation.__name__).type == Rule(type=name).type == name
    assert CLASSES["expect_column_kl_divergence_to_be_less_than"] is gxe.ExpectColumnKLDivergenceToBeLessThan


UNIQUE = "expect_column_values_to_be_unique"
NEARLY = "expect_column_values_to_not_nearly_be_held_out"
REFUSED: dict[str, tuple[str, list[str]]] = {
    "no YAML": ("prompts: [", ["is not YAML"]),
    "a table named twice": ("prompts: []\npaths: []\nprompts: []\n", ["'prompts' stands twice", "line 3"]),
    "an argument given twice": (
        "prompts:\n  - {type: a, kwargs: {column: id, column: text}}\n",
        ["'column' stands twice", "line 2"],
    ),
    "a list where a name stands": ("[1]: []\n", ["unhashable key"]),
    "a number where a name stands": ("1: []\n", ["expected the name of a table"]),
    "a list": ("- prompts\n", ["holds list", "mapping"]),
    "a table without a list": ("prompts:\n", ["'prompts'", "`[]` for none"]),
    "an unknown table": (f"answers: [{{type: {UNIQUE}, kwargs: {{column: id}}}}]", ["'answers'", "paths, prompts"]),
    "a rule that is not a mapping": ("prompts: [unique]", ["gate 'prompts', rule 1"]),
    "a rule without a type": ("prompts: [{kwargs: {column: id}}]", ["rule 1", "type: Field required"]),
    "an unknown key": (
        f"prompts: [{{type: {UNIQUE}, kwargs: {{column: id}}, level: warn}}]",
        ["level: unknown key", "type, kwargs, severity, description"],
    ),
    "an unknown severity": (
        f"prompts: [{{type: {UNIQUE}, kwargs: {{column: id}}, severity: panic}}]",
        ["rule 1", "severity", "'stop' or 'warn'"],
    ),
    "an unknown expectation": (
        "prompts: [{type: expect_column_values_to_be_uniqe, kwargs: {column: id}}]",
        ["gate 'prompts', rule 1", "no expectation 'expect_column_values_to_be_uniqe'", f"did you mean {UNIQUE}"],
    ),
    "one that asks a database": (
        "prompts: [{type: UnexpectedRowsExpectation, kwargs: {unexpected_rows_query: x}}]",
        ["asks a database"],
    ),
    "an unknown argument": (
        f"prompts: [{{type: {UNIQUE}, kwargs: {{column: id, colour: red}}}}]",
        ["rule 1", "'colour' is not an argument", "column, mostly"],
    ),
    "a condition that pandas would run": (
        f"prompts: [{{type: {UNIQUE}, kwargs: {{column: id, row_condition: '@exit()', condition_parser: pandas}}}}]",
        ["'row_condition' is not an argument"],
    ),
    "an argument of another type": (
        f"prompts: [{{type: {UNIQUE}, kwargs: {{column: id, mostly: often}}}}]",
        ["kwargs: mostly"],
    ),
    "a missing argument": (f"prompts: [{{type: {UNIQUE}}}]", ["kwargs: column: field required"]),
    "an unknown column": (
        f"prompts: [{{type: {UNIQUE}, kwargs: {{column: txet}}}}]",
        ["column: the table has no column 'txet'", "id, text, tokens"],
    ),
    "an unknown column of several": (
        "prompts: [{type: expect_compound_columns_to_be_unique, kwargs: {column_list: [id, txet]}}]",
        ["column_list", "'txet'"],
    ),
    "an unknown parameter": (
        "prompts: [{type: expect_column_values_to_be_between, kwargs: {column: tokens, max_value: $tokens}}]",
        ["$tokens is nothing that the run knows", "$max_tokens"],
    ),
    "an unknown parameter in a description": (
        f"prompts: [{{type: {UNIQUE}, kwargs: {{column: id}}, description: at most $tokens}}]",
        ["$tokens is nothing that the run knows"],
    ),
    "a parameter of another kind": (
        f"prompts: [{{type: {NEARLY}, kwargs: {{column: text, held_out: $digests}}}}]",
        ["held_out: $digests does not fit here", "$held_out"],
    ),
    "texts where a number stands": (
        "prompts: [{type: expect_column_values_to_be_between, kwargs: {column: tokens, max_value: $held_out}}]",
        ["max_value: $held_out does not fit here", "$max_tokens"],
    ),
    "a value where a parameter stands": (
        f"prompts: [{{type: {NEARLY}, kwargs: {{column: text, held_out: 'x'}}}}]",
        ["held_out: 'x'", "$held_out"],
    ),
    "a threshold out of bounds": (
        f"prompts: [{{type: {NEARLY}, kwargs: {{column: text, held_out: $held_out, threshold: 1.5}}}}]",
        ["kwargs: threshold"],
    ),
    "an unknown list": ("prompts: [{include: nothing}]", ["'nothing' is not a list of shared.yaml", "named"]),
    "a list and more": ("prompts: [{include: named, severity: warn}]", ["nothing beside it"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_suite_is_refused_with_what_is_wrong_and_what_would_be_right(tmp_path: Path, case: str) -> None:
    text, reported = REFUSED[case]
    with pytest.raises(SuiteRefused) as error:
        load(tmp_path, text, f"named:\n  - {{type: {UNIQUE}, kwargs: {{column: id}}}}\n")
    assert str(tmp_path / "rl.yaml") in str(error.value)
    for part in reported:
        assert part in str(error.value)


def test_a_missing_file_and_a_bad_shared_list_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SuiteRefused, match=r"rl\.yaml cannot be read"):
        load_suite(tmp_path / "rl.yaml", TABLES, {})
    with pytest.raises(SuiteRefused, match=r"rule 1, shared\.yaml 'named', rule 1: type"):
        load(tmp_path, "prompts: [{include: named}]", "named: [{kwargs: {}}]")
    with pytest.raises(SuiteRefused, match=r"shared\.yaml: 'named'"):
        load(tmp_path, "prompts: []", "named: 3")


def test_a_suite_written_as_data_is_held_to_the_same() -> None:
    rules: list[dict[str, Any]] = [{"type": UNIQUE, "kwargs": {"column": "txet"}}]
    with pytest.raises(SuiteRefused, match=r"the recipe: gate 'prompts', rule 1 .*'txet'"):
        check_names(Suite.model_validate({"prompts": rules}), TABLES, "the recipe")
