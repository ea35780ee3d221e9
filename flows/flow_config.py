"""The recipe as a Metaflow flow's configuration, and what of it decorates a flow."""

import os
from collections.abc import Sequence
from typing import Any

from metaflow import FlowMutator, Parameter
from metaflow import schedule as schedule_decorator  # type: ignore[attr-defined]
from metaflow.exception import MetaflowException

from flows.cluster.plan import ON_CLUSTER
from steps.recipe import ConfigRefused, parse_recipe


class RecipeRefused(MetaflowException):
    """The configuration, or what is to be run of it, cannot be run."""

    headline = "Configuration refused"


def read_config(text: str) -> dict[str, Any]:
    """Metaflow's parser for the configuration file: typed, checked, and plain data again."""
    try:
        return parse_recipe(text, "the configuration").model_dump(mode="json")
    except ConfigRefused as error:
        raise RecipeRefused(str(error)) from error


class scheduled(FlowMutator):
    """`@scheduled("full", "rl")`: the flow has the recipe's schedule, where that is for one of these.

    Argo makes a CronWorkflow of it, which runs a flow with its parameters as they are by default: where the recipe's
    schedule is for RL, the flow ends there unless a parameter says otherwise. On one machine nothing changes: `longhaul
    schedule run` goes by the recipe.
    """

    def init(self, *what: str) -> None:
        self.what: Sequence[str] = what

    def pre_mutate(self, mutable_flow: Any) -> None:
        schedule = dict(mutable_flow.configs)["config"].schedule
        if schedule is not None and schedule.what in self.what:
            attributes = {"cron": schedule.cron, "timezone": schedule.timezone}
            mutable_flow.add_decorator(schedule_decorator, deco_kwargs=attributes)
            if schedule.what == "rl" and ON_CLUSTER in os.environ:
                until = Parameter("until", default="rl", help="Run this stage and those that it depends on.")
                mutable_flow.add_parameter("until", until, overwrite=True)
