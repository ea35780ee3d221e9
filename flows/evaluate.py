"""Evaluate a finished model, and compare it with the one that a tag names.

Run it with `longhaul evaluate [MODEL] [--against TAG]`, or as a plain Metaflow flow:

    python flows/evaluate.py run [--model rl] [--against production]

On Argo it runs when the training flow has finished, and at the recipe's own times where its schedule says `evaluate`.
Models and records stay in the store, by the names of the runs. The work is in flows/evaluation.py.
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
from flows.cluster.finished import write_steps_to_run  # noqa: E402
from flows.cluster.plan import ON_CLUSTER  # noqa: E402
from flows.cluster.pool_environments import leave_environment  # noqa: E402
from flows.cluster.workflow_changes import EVALUATE_STEP  # noqa: E402
from flows.evaluation import (  # noqa: E402
    compare,
    evaluate_model,
    evaluated_in,
    reuse_evaluation,
    write_comparison,
)
from flows.flow_config import read_config, scheduled  # noqa: E402
from flows.home import open_store  # noqa: E402
from flows.models import tagged  # noqa: E402
from infra.store.evaluation_stages import EVALUATE  # noqa: E402
from steps.promotion import PromotionRules  # noqa: E402
from steps.recipe import Recipe, check_recipe  # noqa: E402


@on_cluster({"evaluate": "evaluate"})
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

    @property
    def requested(self) -> dict[str, str]:
        """By run, the model that it evaluates: the one to compare, and the one that has the tag, if any has it."""
        set_to = tagged(open_store(self.recipe.store), self.against)
        model = set_to.model.digest if set_to is not None and set_to.model is not None else None
        return {self.run_name: self.model} | ({f"{self.run_name}-{self.against}": model} if model else {})

    @step
    def start(self) -> None:
        """Name the run. On a cluster, use evaluations that are there already: that needs no GPU."""
        self.run_name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{current.run_id}"
        self.runs = self.requested
        if ON_CLUSTER in os.environ:
            done = [reuse_evaluation(self.recipe, run, model, sys.argv[1:]) for run, model in self.runs.items()]
            write_steps_to_run([EVALUATE_STEP], [] if all(done) else [EVALUATE_STEP])
        self.next(self.evaluate)

    @resources(cpu=2, memory=8000)
    @step
    def evaluate(self) -> None:
        """Evaluate both models."""
        store = open_store(self.recipe.store)
        if ON_CLUSTER in os.environ:
            leave_environment(store, self.recipe, EVALUATE)
        for run, model in self.runs.items():
            if evaluated_in(store, run) is None:
                evaluate_model(self.recipe, run, model, sys.argv[1:])
        self.next(self.end)

    @step
    def end(self) -> None:
        """Compare them."""
        new, *old = [evaluated_in(open_store(self.recipe.store), run) for run in self.runs]
        assert new is not None
        rules = PromotionRules(self.accuracy_drop, None if self.token_growth < 0 else self.token_growth)
        comparison = compare(new, self.against, old[0] if old else None, rules)
        html, path = write_comparison(self.recipe, self.run_name, comparison)
        save_card(self, html)
        self.comparison = comparison.plain()
        print(f"{comparison.verdict}\nreport: {path}")


if __name__ == "__main__":
    os.environ.setdefault("METAFLOW_RUN_MAX_WORKERS", "1")
    Evaluate()
