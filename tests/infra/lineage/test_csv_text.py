"""Tables for spreadsheets."""

import csv
import io

import pytest

from infra.lineage.csv_text import csv_text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\n=1"])
def test_a_spreadsheet_computes_nothing_from_the_names_of_others(text: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_text([text], [[text]]), newline="")))
    assert rows == [[f"'{text}"], [f"'{text}"]]


def test_a_carriage_return_ends_no_row() -> None:
    assert csv_text(["a", "b"], [["one\rtwo", "\r\n=1"]]) == 'a,b\n"one\ntwo","\'\n=1"\n'


def test_numbers_are_as_they_are_and_nothing_is_an_empty_cell() -> None:
    assert csv_text(["a", "b", "c"], [[-0.5, None, 'x, "y"']]) == 'a,b,c\n-0.5,,"x, ""y"""\n'
