"""`@stage(name=…)`: a Metaflow step that is a stage of the chain.

Before the step's own code, the stage is run, or reused where its key has outputs already, and after it the evaluation
of the model that it makes; their records join the artifact `records`, and the step's card shows them. A stage that is
not part of the run is passed through, and has no card.

On a cluster, the first step also reuses all that is finished, so that only steps with something left to do get a pod.
"""

import os
from collections.abc import Generator
from typing import Any

from metaflow import user_step_decorator

from flows.cluster.finished import finished_records, reuse_finished, write_steps_to_run
from flows.cluster.plan import ON_CLUSTER
from flows.cluster.pool_environments import leave_environment
from flows.cluster.workflow_changes import STEPS


@user_step_decorator
def stage(step_name: str, flow: Any, inputs: Any, attributes: dict[str, Any]) -> Generator[None, None, None]:
    """See the module. `name` is the stage's."""
    name = attributes["name"]
    if step_name == "start":
        flow.begin()
    chain, done = flow.chain, finished_records(flow)
    if ON_CLUSTER in os.environ:
        leave_environment(chain.store, chain.recipe, name)
    made = chain.run_step(name, done)
    if step_name == "start" and ON_CLUSTER in os.environ:
        reused, to_run = reuse_finished(chain, made)
        write_steps_to_run(STEPS.values(), (STEPS[one] for one in to_run))
        made += reused
    flow.records = {each.stage: each.model_dump(mode="json") for each in (*done.values(), *made)}
    if made:
        flow.draw_card(made)
    yield
