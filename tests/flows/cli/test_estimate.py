"""What `longhaul plan --estimate` prints, and how it ends."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli.estimate import make_estimate, print_estimate
from flows.cli.run import plan
from steps.recipe import load_recipe

CONFIGS = Path(__file__).parents[3] / "configs"


def test_an_estimate_is_printed_as_tables_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    actual = make_estimate(load_recipe(CONFIGS / "qwen-1.5b-8gpu.yaml"), None, None, 2.5, ["sft_examples=5000"])
    print_estimate(actual)
    displayed = capsys.readouterr()
    assert "8 × h100" in displayed.out and "at 2.50 USD" in displayed.out and displayed.err == ""
    assert "long2short/shortest" in displayed.out and "…" not in displayed.out, "a column is cut off at 80 characters"
    print_estimate(actual, as_json=True)
    plain = json.loads(capsys.readouterr().out)
    assert plain["figures"]["sft_examples"] == {"value": 5000, "source": "given"}
    assert plain["fits"] and plain["cost"] == pytest.approx(plain["hours"] * 8 * 2.5)


def test_what_cannot_run_ends_with_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe(CONFIGS / "report.yaml")
    alone = recipe.trainer.model_copy(update={"sequence_parallel": 1})
    actual = make_estimate(recipe.model_copy(update={"trainer": alone}), "l40s", 32, None, [])
    with pytest.raises(SystemExit) as ended:
        print_estimate(actual, as_json=True)
    reported = capsys.readouterr()
    assert ended.value.code == 1 and "cannot run: training (rows of" in reported.err
    assert json.loads(reported.out)["problems"] == list(actual.problems)


def test_the_nano_recipe_is_estimated_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    actual = make_estimate(load_recipe(CONFIGS / "nano.yaml"), None, None, None, [])
    print_estimate(actual)
    printed = capsys.readouterr().out
    assert "on this machine" in printed
    assert "kept in the store to fork from: 3 iterations" in printed, "12, 24 and 36"
    assert actual.plain()["kept_iterations"] == {"number": 3, "bytes": 3 * 4 * actual.model.parameters}


@pytest.mark.parametrize("assumed", ["sft_examples", "sft_examples=many", "no_such=1", "sft_examples=nan"])
def test_a_figure_that_cannot_be_assumed_is_refused(assumed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_estimate(load_recipe(CONFIGS / "qwen-1.5b-8gpu.yaml"), None, None, None, [assumed])
    assert assumed.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(("gpus", "price"), [(3, None), (None, 2.5)])
def test_options_for_gpus_are_refused_on_a_cpu(
    gpus: int | None, price: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        make_estimate(load_recipe(CONFIGS / "nano.yaml"), None, gpus, price, [])
    assert "add --gpu" in capsys.readouterr().err


def test_options_for_an_estimate_ask_for_one() -> None:
    done = CliRunner().invoke(plan, ["--config", str(CONFIGS / "nano.yaml"), "--gpus", "3"])
    assert done.exit_code == 1 and "add --estimate" in done.output
