"""`@stage(name=…)`: a Metaflow step that is a stage of the chain.

Before the step's own code, the stage is run, or used again where its key has outputs already; its record joins the
artifact `records`, and the step's card shows it. A stage that is not part of the run is passed through.
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
    record = flow.chain.run(name, {each: StageRecord.model_validate(one) for each, one in flow.records.items()})
    if record is None:
        flow.html = f"<p>{name} is not part of this run.</p>"
    else:
        flow.records = {**flow.records, name: record.model_dump(mode="json")}
        flow.draw_card([record])
    yield
