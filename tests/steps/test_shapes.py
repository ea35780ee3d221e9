"""Shapes that types state are checked while tests run, and are not while the project does."""

import subprocess
import sys

import jaxtyping
import pytest
import torch

from steps.packing import PackedRows
from steps.rl.objective import LossInputs, baseline, surrogate_loss
from tests.conftest import SHAPED


def test_rows_whose_parts_do_not_fit_together_are_refused() -> None:
    tokens = torch.zeros(2, 5, dtype=torch.long)
    PackedRows(tokens, tokens, [[5], [5]], tokens[:, 1:])
    for positions, owners in ((tokens[:1], tokens[:, 1:]), (tokens, tokens), (tokens, tokens[:, 1:].float())):
        with pytest.raises(jaxtyping.TypeCheckError):
            PackedRows(tokens, positions, [[5], [5]], owners)


def test_token_values_of_another_shape_than_the_rows_are_refused() -> None:
    tokens = torch.zeros(2, 5, dtype=torch.long)
    rows = PackedRows(tokens, tokens, [[5], [5]], tokens[:, 1:])
    assert rows.per_example(torch.ones(2, 4), 1).tolist() == [8.0]
    with pytest.raises(jaxtyping.TypeCheckError):
        rows.per_example(torch.ones(8), 1)


def test_a_loss_of_responses_that_do_not_count_the_same_is_refused() -> None:
    three, four = torch.zeros(3), torch.zeros(4)
    assert surrogate_loss(LossInputs(three, three, three, three), "mirror_descent", 0.1).shape == ()
    with pytest.raises(jaxtyping.TypeCheckError):
        LossInputs(three, three, four, three)
    with pytest.raises(jaxtyping.TypeCheckError):
        baseline(torch.zeros(3, 2), 0.1, "mean")


def test_shapes_are_not_checked_outside_of_tests() -> None:
    program = "import sys; from {} import *; print('beartype' in sys.modules)"
    for module in (SHAPED[2], SHAPED[3]):
        run = subprocess.run([sys.executable, "-c", program.format(module)], capture_output=True, text=True, check=True)
        assert run.stdout == "False\n"
