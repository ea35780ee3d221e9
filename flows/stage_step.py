"""`@stage(name=…)`: a Metaflow step that is a stage of the chain.

Before the step's own code, the stage is run, or reused where its key has outputs already, and after it the evaluation
of the model that it makes; their records join the artifact `records`, and the step's card shows them. A stage that is
not part of the run is passed through, and has no card.
"""

from collections.abc import Generator
from typing import Any

from metaflow import user_step_decorator

from infra.store.records import StageRecord


@user_step_decorator
def stage(step_name: str, flow: Any, inputs: Any, attributes: dict[str, Any]) -> Generator[None, None, None]:
    """See the module. `name` is the stage's."""
    name = attributes["name"]
    if step_name == "start":
        flow.begin()
    done = {each: StageRecord.model_validate(one) for each, one in flow.records.items()}
    made = flow.chain.run_step(name, done)
    if made:
        flow.records = {**flow.records, **{record.stage: record.model_dump(mode="json") for record in made}}
        flow.draw_card(made)
    yield
