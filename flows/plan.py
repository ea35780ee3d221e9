"""The plan: what a run would do, stage by stage, and why, before anything runs.

A stage's reason comes from the earlier run of it that is nearest, the one with the fewest differences: what differs is
why that one's outputs do not do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from flows.chain import STAGES, Chain, NotThere, not_there, wanted_stages
from infra.stages.key import Difference, KeyParts
from infra.store.records import StageRecord

REASONS = 3
"""Differences that a reason names; the others are counted."""

ERROR_LENGTH = 120
"""Characters of an earlier failure's message that a reason shows."""

Action = Literal["reuse", "run", "skip"]


@dataclass(frozen=True)
class PlannedStage:
    """What would happen to a stage."""

    stage: str
    action: Action
    """`skip`: not selected, not needed, and with no outputs to use."""
    reason: str
    key: str
    seconds: float | None = None
    """What it would take, by the nearest earlier run; None where it never ran."""
    record: StageRecord | None = None
    """What would be used again."""
    differences: tuple[Difference, ...] = ()
    """From the nearest earlier run, where the stage would run."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "stage": self.stage,
            "action": self.action,
            "reason": self.reason,
            "key": self.key,
            "estimated_seconds": self.seconds,
            "reused_from": (self.record.reused_from or self.record.run) if self.record else None,
            "differences": [vars(difference) for difference in self.differences],
        }


def make_plan(
    chain: Chain,
    earlier_runs: Callable[[str], Sequence[StageRecord]],
    last_failure: Callable[[str], StageRecord | None],
    read: bool = False,
) -> list[PlannedStage]:
    """What a run would do with each stage that the recipe has, in order.

    Args:
        earlier_runs: for a stage, its earlier successes, newest first.
        last_failure: for a key, the newest execution with it that failed.
        read: whether the bytes of what would be used again are read and compared, rather than looked for.

    Raises NotThere where a stage is needed, not selected, and has no outputs.
    """
    keys: dict[str, str] = {}
    plan: list[PlannedStage] = []
    for stage in wanted_stages(chain.recipe):
        inputs = STAGES[stage].inputs(chain.recipe)
        if not set(inputs.values()) <= keys.keys():
            plan.append(PlannedStage(stage, "skip", f"not selected ({chain.selection.told})", ""))
            continue
        planned = _planned(chain, stage, chain.parts(stage, keys), plan, earlier_runs, read)
        if planned.action == "run" and (failed := last_failure(planned.key)):
            planned = replace(planned, reason=f"{_told_of(failed)}; {planned.reason}")
        plan.append(planned)
        if planned.action != "skip":
            keys[stage] = planned.record.key if planned.record else planned.key
    return plan


def _planned(
    chain: Chain,
    stage: str,
    parts: KeyParts,
    before: Sequence[PlannedStage],
    earlier_runs: Callable[[str], Sequence[StageRecord]],
    read: bool,
) -> PlannedStage:
    selected = stage in chain.selected
    earlier = chain.earlier(stage, parts, read)
    record = earlier.record
    if record is not None and not (selected and chain.selection.force):
        source = record.reused_from or record.run
        taken = record.key != parts.key
        reason = f"taken from run {source} as asked, with another key" if taken else f"same key as in run {source}"
        return PlannedStage(stage, "reuse", reason, record.key, 0.0, record)
    if not selected:
        if stage in chain.needed:
            raise NotThere(not_there(stage, chain.selection, earlier))
        return PlannedStage(stage, "skip", f"not selected ({chain.selection.told})", parts.key)
    runs = earlier_runs(stage)
    nearest = min(runs, key=lambda run: len(parts.differences(KeyParts.of(run))), default=None)
    seconds = nearest.seconds if nearest else None
    if record is not None:
        return PlannedStage(stage, "run", "asked for (--force)", parts.key, seconds)
    if earlier.problems:
        return PlannedStage(stage, "run", earlier.problems[0], parts.key, seconds)
    if nearest is None:
        return PlannedStage(stage, "run", "never run before", parts.key)
    differences = parts.differences(KeyParts.of(nearest))
    named = [in_the_recipe(difference, stage) for difference in differences]
    return PlannedStage(
        stage, "run", _reason(named, STAGES[stage].inputs(chain.recipe), before), parts.key, seconds, None, tuple(named)
    )


def _told_of(failed: StageRecord) -> str:
    error = failed.failure.error.partition("\n")[0] if failed.failure else ""
    return f"failed in run {failed.run}: {error if len(error) <= ERROR_LENGTH else error[:ERROR_LENGTH] + '…'}"


def in_the_recipe(difference: Difference, stage: str) -> Difference:
    """A difference in a stage's settings under the recipe's name of the key; any other as it is."""
    if difference.kind != "config" or stage not in STAGES:
        return difference
    section = STAGES[stage].section
    own = difference.name.removeprefix("own.")
    name = f"{section}.{own}" if own != difference.name or section == "data" else own
    return Difference("config", name, difference.before, difference.after)


def _reason(differences: Sequence[Difference], inputs: dict[str, str], before: Sequence[PlannedStage]) -> str:
    """The differences in words; an input's is told by what became of the stage that it comes from."""
    runs = {planned.stage for planned in before if planned.action == "run"}
    told = [str(difference) for difference in differences if difference.kind != "input"]
    told_of_code = [str(d) for d in differences if d.kind == "code"]
    if len(told_of_code) > REASONS:
        told = [text for text in told if text not in told_of_code[REASONS:]]
        told.append(f"and {len(told_of_code) - REASONS} more modules of its code")
    changed = list(dict.fromkeys(inputs[d.name] for d in differences if d.kind == "input" and d.name in inputs))
    told += [f"{stage} {'runs' if stage in runs else 'is another'}" for stage in changed]
    told += [str(d) for d in differences if d.kind == "input" and d.name not in inputs]
    if not told:
        # The nearest run has this very key, and is no success that could be used.
        return "its earlier success is not recorded under its key"
    shown, more = told[: 2 * REASONS], len(told) - 2 * REASONS
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
