"""The evaluate stage: a finished model on the held-out problems as the recipe has them now.

Every stage that makes a model evaluates it with the settings and the problems of its day. This one does it again, so
that models of different days can be compared: by settings, problems and seed alike. It makes nothing.
"""

from infra.stages.contract import StageContext, StageOutput
from steps.configs.evaluation import EvaluationConfig
from steps.evaluation import evaluate
from steps.stages.common import held_out, workbench
from steps.stages.settings import StageSettings


def run(context: StageContext, settings: StageSettings[EvaluationConfig]) -> StageOutput:
    """Evaluate the input `model` on the test problems of the input `data`."""
    test = held_out(context, settings)
    with workbench(context, settings, context.inputs["model"]) as bench:
        evaluation = evaluate(bench, test, settings.evaluation)
    return StageOutput({}, {}, evaluation.model_dump(), evaluation.headline)
