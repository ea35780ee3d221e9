"""The plan: what a run would do, stage by stage, and why, before anything runs.

A stage's reason comes from the earlier run of it that is nearest, the one with the fewest differences: what differs is
why that one's outputs do not do. Inputs count by their digests: where a stage before runs, and may make the same bytes
as ever, the plan says with which outcome a stage may be reused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from flows.chain import Chain, StageMissing, missing
from flows.forks import INPUTS as FORK_INPUTS
from flows.topology import STAGES, enabled_stages, inputs_of
from infra.stages.code_digest import definitions
from infra.stages.key import UNKNOWN, Difference, KeyParts
from infra.store import records
from infra.store.records import DefinitionsRecord, StageRecord

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
    """Where an input is yet to be made, of no use but to tell plans apart."""
    seconds: float | None = None
    """What it would take, by the nearest earlier run; None where it never ran."""
    record: StageRecord | None = None
    """What would be reused."""
    checks_again: bool = False
    """Whether its data gates check what a reused stage read, since they changed."""
    may_reuse: StageRecord | None = None
    """What would be reused if the inputs that are yet to be made came out as they did for it."""
    differences: tuple[Difference, ...] = ()
    """From the nearest earlier run, where the stage would run."""
    parts: KeyParts | None = None
    """What its key is made of; None where inputs are missing that nothing would make."""
    forked_from: str | None = None
    """The iteration from which it would continue: RUN:STAGE@N."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "stage": self.stage,
            "action": self.action,
            "reason": self.reason,
            "key": self.key,
            "estimated_seconds": self.seconds,
            "reused_from": _source(self.record) if self.record else None,
            "may_be_reused_from": _source(self.may_reuse) if self.may_reuse else None,
            "forked_from": self.forked_from,
            "differences": [difference.plain() for difference in self.differences],
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
        read: whether the bytes of what would be reused are read and compared, rather than looked for.

    Raises StageMissing where a stage is needed, not selected, and has no outputs, and ForkRefused where one cannot
    continue from where it is to.
    """
    known: dict[str, StageRecord | None] = {}
    plan: list[PlannedStage] = []
    for stage in enabled_stages(chain.recipe):
        inputs = inputs_of(chain.recipe, stage)
        if not {each.stage for each in inputs.values()} <= known.keys():
            plan.append(PlannedStage(stage, "skip", f"not selected ({chain.selection.options})", ""))
            continue
        planner = _Planner(chain, stage, known, earlier_runs, read)
        planned = replace(planner.planned(), parts=planner.parts)
        if (fork := chain.fork_of(stage)) is not None:
            reason = f"continues from {fork.point}"
            if planned.action == "run":
                reason += f"; {planned.reason}" if planned.reason else ""
            else:
                reason = f"{planned.reason}, which {reason}"
            planned = replace(planned, reason=reason, forked_from=str(fork.point))
        if planned.action == "run" and (failed := last_failure(planned.key)):
            planned = replace(planned, reason=f"{_failure_reason(failed)}; {planned.reason}")
        plan.append(planned)
        if planned.action != "skip":
            known[stage] = planned.record
    return plan


def differences_from(chain: Chain, planned: PlannedStage, record: StageRecord) -> list[Difference]:
    """In what a stage as it would run now differs from an earlier run of it, under the recipe's names of settings."""
    assert planned.parts is not None
    differences = planned.parts.differences(KeyParts.of(record))
    return [_named(chain, difference, planned.stage, record) for difference in differences]


def in_words(
    chain: Chain, stage: str, differences: Sequence[Difference], known: Mapping[str, StageRecord | None]
) -> list[str]:
    """Differences of a stage in words; an input's is what became of the stage that it comes from.

    Args:
        known: of stages before it that are reused, what is; None for those that would run.
    """
    inputs = STAGES[stage].inputs(chain.recipe)
    of_inputs = [each for each in differences if each.kind == "input"]
    words = [str(each) for each in differences if each.kind != "input"]
    of_code = [str(each) for each in differences if each.kind == "code"]
    if len(of_code) > REASONS:
        words = [text for text in words if text not in of_code[REASONS:]]
        words.append(f"and {len(of_code) - REASONS} more modules of its code")
    makers = list(dict.fromkeys(inputs[each.name].stage for each in of_inputs if each.name in inputs))
    words += [f"{maker} {'runs' if known.get(maker) is None else 'made other outputs'}" for maker in makers]
    words += [str(each) for each in of_inputs if each.name not in inputs and each.name not in FORK_INPUTS]
    if any(each.name in FORK_INPUTS for each in of_inputs):
        words.append("the iteration that it continues from changed")
    more = len(words) - 2 * REASONS
    return [*words[: 2 * REASONS], *([f"and {more} more"] if more > 0 else [])]


@dataclass
class _Planner:
    """Plans one stage."""

    chain: Chain
    stage: str
    known: dict[str, StageRecord | None]
    earlier_runs: Callable[[str], Sequence[StageRecord]]
    read: bool

    @cached_property
    def earlier(self) -> Sequence[StageRecord]:
        """Earlier successes of the stage, looked for where it would run: others need no index."""
        return self.earlier_runs(self.stage)

    @cached_property
    def parts(self) -> KeyParts:
        """What the stage's key would be made of."""
        return self.chain.parts(self.stage, self.known)

    def planned(self) -> PlannedStage:
        """What would happen to the stage. Raises StageMissing."""
        chain, stage = self.chain, self.stage
        selected, parts = stage in chain.selected, self.parts
        chain.check_fork(stage, parts)
        cached = chain.reusable(stage, parts, self.read)
        record = cached.record
        if record is not None and not (selected and chain.selection.force):
            again = record.key == parts.key and record.gates_key != chain.gates_key(stage, self.known)
            reason = self._reuse_reason(record, parts)
            if again:
                reason += "; its data gates check again: their rules, code or data changed"
            return PlannedStage(stage, "reuse", reason, record.key, 0.0, record, again)
        if not selected:
            if stage in chain.needed and not parts.unknown_inputs:
                raise StageMissing(missing(stage, chain.selection, cached))
            return PlannedStage(stage, "skip", f"not selected ({chain.selection.options})", parts.key)
        nearest = min(self.earlier, key=lambda run: _distance(parts, run), default=None)
        seconds = nearest.seconds if nearest else None
        if chain.selection.force and nearest:
            return PlannedStage(stage, "run", "requested (--force)", parts.key, seconds)
        if cached.problems:
            return PlannedStage(stage, "run", cached.problems[0], parts.key, seconds)
        if nearest is None:
            return PlannedStage(stage, "run", "never run before", parts.key)
        differences = [_named(chain, each, stage, nearest) for each in parts.differences(KeyParts.of(nearest))]
        may_reuse = self._reusable_if_unchanged(parts)
        reason = self._conditional_reason(parts, may_reuse) if may_reuse else self._reason(differences)
        return PlannedStage(stage, "run", reason, parts.key, seconds, None, False, may_reuse, tuple(differences))

    def _reuse_reason(self, record: StageRecord, parts: KeyParts) -> str:
        source = _source(record)
        if record.key == parts.key:
            return f"same key as in run {source}"
        if self.chain.selection.reuse is not None:
            return f"taken from run {source} as requested, with another key"
        return f"run {source} made it in another numeric environment, which the recipe allows"

    def _reusable_if_unchanged(self, parts: KeyParts) -> StageRecord | None:
        """The newest success that differs in nothing but inputs that are yet to be made."""
        if not parts.unknown_inputs:
            return None
        for record in self.earlier:
            differences = parts.differences(KeyParts.of(record))
            if all(each.kind == "input" and each.after == UNKNOWN for each in differences):
                return record
        return None

    def _conditional_reason(self, parts: KeyParts, may_reuse: StageRecord) -> str:
        inputs = STAGES[self.stage].inputs(self.chain.recipe)
        makers = list(dict.fromkeys(inputs[name].stage for name in parts.unknown_inputs))
        verb = "comes" if len(makers) == 1 else "come"
        return f"may be reused from run {_source(may_reuse)} if {' and '.join(makers)} {verb} out the same"

    def _reason(self, differences: Sequence[Difference]) -> str:
        """The differences in words."""
        if self.chain.fork_of(self.stage) is not None:
            # That it continues from an iteration is said before these.
            differences = [each for each in differences if each.name not in FORK_INPUTS]
            return "; ".join(in_words(self.chain, self.stage, differences, self.known))
        words = in_words(self.chain, self.stage, differences, self.known)
        # Without any, the nearest run has this very key, and is not a success that could be used.
        return "; ".join(words) or "its earlier success is not recorded under its key"


def _named(chain: Chain, difference: Difference, stage: str, earlier: StageRecord) -> Difference:
    """A difference under the recipe's name of a setting, or with what changed in a module."""
    if difference.kind == "config":
        return in_the_recipe(difference, stage)
    if difference.kind == "code" and difference.before and difference.after:
        return replace(difference, detail=_changed_definitions(chain, difference.name, earlier))
    return difference


def _changed_definitions(chain: Chain, module: str, earlier: StageRecord) -> str:
    """Names of the functions and constants that changed; '' where that is unknown."""
    entries = list(records.read_skipping(chain.store, DefinitionsRecord, f"definitions/{earlier.definitions}"))
    before = entries[-1].modules.get(module) if entries and earlier.definitions else None
    after = definitions({module: ""}).get(module)
    if before is None or after is None:
        return ""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(names[:REASONS]) + (f" and {len(names) - REASONS} more" if len(names) > REASONS else "")


def _distance(parts: KeyParts, run: StageRecord) -> tuple[bool, int]:
    """How far an earlier run is from what would run now: one whose key was made by other rules is farthest."""
    differences = parts.differences(KeyParts.of(run))
    return any(each.kind == "format" for each in differences), len(differences)


def _source(record: StageRecord) -> str:
    return record.reused_from or record.run


def _failure_reason(failed: StageRecord) -> str:
    error = failed.failure.error.partition("\n")[0] if failed.failure else ""
    return f"failed in run {failed.run}: {error if len(error) <= ERROR_LENGTH else error[:ERROR_LENGTH] + '…'}"


def in_the_recipe(difference: Difference, stage: str) -> Difference:
    """A difference in a stage's settings under the recipe's name of the key; any other as it is."""
    if difference.kind != "config" or stage not in STAGES:
        return difference
    section = STAGES[stage].section
    own = difference.name.removeprefix("own.")
    name = f"{section}.{own}" if own != difference.name else own
    return replace(difference, name=name)
