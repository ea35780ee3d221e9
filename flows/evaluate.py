"""Evaluate a finished model, and compare it with the one that a tag names.

Run it with `longhaul evaluate [MODEL] [--against TAG]`, or as a plain Metaflow flow:

    python flows/evaluate.py run [--model rl] [--against production]

On Argo it runs when the training flow has finished, and at the recipe's own times where its schedule says `evaluate`.
Models stay in the store; what passes from step to step are records. The work is in flows/evaluation.py.
"""

import os
import sys
from datetime import UTC, datetime
from typing import Any

from flows.flow_setup import enter_flow_environment

enter_flow_environment()

from metaflow import (  # type: ignore[attr-defined]  # noqa: E402
    Config,
    FlowSpec,
    Parameter,
    current,
    resources,
    step,
    trigger_on_finish,
)

from flows.cards import save_card  # noqa: E402
from flows.cluster.decorator import on_cluster  # noqa: E402
from flows.evaluation import compare, evaluate_model, evaluate_tagged, write_comparison  # noqa: E402
from flows.flow_config import read_config, scheduled  # noqa: E402
from steps.promotion import PromotionRules  # noqa: E402
from steps.recipe import Recipe, check_recipe  # noqa: E402


@on_cluster({"start": "evaluate", "tagged": "evaluate"})
@scheduled("evaluate")
@trigger_on_finish(flow="PostTrain")
class Evaluate(FlowSpec):
    """Evaluate a finished model beside the tagged one."""

    config = Config("config", default="configs/nano.yaml", parser=read_config, help="The recipe's configuration.")
    model: Any = Parameter("model", default="", help="The model (default: the newest finished one).")
    against: Any = Parameter("against", default="production", help="The tag whose model it is compared with.")
    accuracy_drop: Any = Parameter("accuracy_drop", default=0.0, help="How far below the tagged one's accuracy may be.")
    token_growth: Any = Parameter(
        "token_growth", default=-1.0, help="How much longer responses may be; below 0: any length."
    )

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return check_recipe(self.config.to_dict(), "the configuration")

    @resources(cpu=2, memory=8000)
    @step
    def start(self) -> None:
        """Evaluate the model."""
        self.run_name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{current.run_id}"
        self.new = evaluate_model(self.recipe, self.run_name, self.model, sys.argv[1:])
        self.next(self.tagged)

    @resources(cpu=2, memory=8000)
    @step
    def tagged(self) -> None:
        """Evaluate the model that has the tag."""
        self.old = evaluate_tagged(self.recipe, f"{self.run_name}-{self.against}", self.against, sys.argv[1:])
        self.next(self.end)

    @step
    def end(self) -> None:
        """Compare them."""
        rules = PromotionRules(self.accuracy_drop, None if self.token_growth < 0 else self.token_growth)
        comparison = compare(self.new, self.against, self.old, rules)
        html, path = write_comparison(self.recipe, self.run_name, comparison)
        save_card(self, html)
        self.comparison = comparison.plain()
        print(f"{comparison.verdict}\nreport: {path}")


if __name__ == "__main__":
    os.environ.setdefault("METAFLOW_RUN_MAX_WORKERS", "1")
    Evaluate()
