from typing import Any

import pytest

from infra.store.evaluation import Evaluation
from infra.store.evaluation_stages import (
    evaluated_stage,
    evaluation_of,
    evaluation_record,
    evaluation_stage,
    has_own_row,
    is_evaluation,
)
from infra.store.records import StageRecord
from tests.infra.lineage.records import EVALUATION, ref, stage_record

MODEL = stage_record("rl", "first")
OWN, NEWER = (Evaluation.model_validate(EVALUATION | {"accuracy": accuracy}) for accuracy in (0.25, 0.75))


def evaluation(of: str, digest_of: object, **changed: Any) -> StageRecord:
    model = {"model": MODEL.outputs["model"] if digest_of is MODEL else ref("model", digest_of)}
    return stage_record(of, "first", **{"inputs": model, "outputs": {}, "evaluation": NEWER, **changed})


@pytest.mark.parametrize("stage", ["rl", "long2short/dpo"])
def test_the_stage_of_an_evaluation_names_the_stage_whose_model_it_evaluates(stage: str) -> None:
    assert evaluated_stage(evaluation_stage(stage)) == stage
    assert is_evaluation(evaluation_stage(stage)) and is_evaluation("evaluate")
    assert not is_evaluation(stage) and not is_evaluation("evaluated")
    assert evaluated_stage(stage) is evaluated_stage("evaluate") is None


def test_the_evaluation_stage_is_believed_before_the_record_that_made_the_model() -> None:
    made = MODEL.model_copy(update={"evaluation": OWN})
    evaluated = evaluation("evaluate/rl", MODEL)
    assert evaluation_of([made, evaluated], "rl") == NEWER
    assert evaluation_record([made, evaluated], "rl") is evaluated
    assert evaluation_of([made], "rl") == OWN
    assert evaluation_of([evaluated], "evaluate/rl") == NEWER


def test_the_evaluation_of_another_model_says_nothing_about_this_one() -> None:
    made = MODEL.model_copy(update={"evaluation": OWN})
    assert evaluation_of([made, evaluation("evaluate/rl", "another")], "rl") == OWN
    bare = MODEL.model_copy(update={"evaluation": None})
    assert evaluation_of([bare, evaluation("evaluate/long_cot_sft", MODEL)], "rl") is None


def test_an_evaluation_that_failed_leaves_the_older_one() -> None:
    made = MODEL.model_copy(update={"evaluation": OWN})
    assert evaluation_of([evaluation("evaluate/rl", MODEL, evaluation=None), made], "rl") == OWN


def test_an_evaluation_has_a_row_of_its_own_only_where_its_stage_has_none() -> None:
    assert not has_own_row("evaluate/rl", ["rl", "evaluate/rl"])
    assert has_own_row("evaluate/rl", ["data", "evaluate/rl"])
    assert has_own_row("rl", ["rl", "evaluate/rl"]) and has_own_row("evaluate", ["data", "evaluate"])
