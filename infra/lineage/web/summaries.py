"""What pages show of a stage's record, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.lineage import row_values
from infra.lineage.row_values import evaluation_number
from infra.lineage.web.templating import percent, plain
from infra.store.evaluation_stages import (
    evaluation_figures,
    evaluation_record,
    evaluation_stage,
    has_own_row,
    is_evaluation,
)
from infra.store.records import StageRecord

GATE_ORDER = ("broken", "warned", "held")
"""States of gates and rules, what needs attention first."""


def is_number(value: Any) -> bool:
    """Whether a value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def execution_id(record: StageRecord) -> str:
    """The graph's node of the stage that really ran."""
    return row_values.execution_id(record.reused_from or record.run, record.stage)


def stage_state(record: StageRecord) -> str:
    """How a stage went, in one word."""
    if record.failure is not None:
        return "failed"
    return "reused" if record.reused_from else "succeeded"


@dataclass(frozen=True)
class StageRow:
    """A stage in the table of a run, with the evaluation of its model."""

    record: StageRecord
    node: str
    state: str
    gates: tuple[str, str] | None
    """State and words for all its gates."""
    evaluation: StageRecord | None
    """The record that holds the evaluation; the stage's own where the run is older."""
    failed_evaluation: StageRecord | None
    accuracy: float | None
    mean_tokens: float | None


@dataclass(frozen=True)
class Rule:
    """One rule of a gate, and its result."""

    rule: str
    state: str
    result: str
    examples: tuple[tuple[str, str], ...]
    """Id and value (with the reason, where there is one) of rows that broke it."""
    images: tuple[tuple[str, ...], ...] = ()
    """Digests of the images of each of these rows."""


@dataclass(frozen=True)
class Gate:
    """A gate's result."""

    name: str
    state: str
    """held, warned (only rules that warn are broken) or broken."""
    rows: Any
    rules: tuple[Rule, ...]


def stage_rows(records: Sequence[StageRecord]) -> list[StageRow]:
    """The rows of a run's stages; an evaluation is part of the row of its stage, if the run has that."""
    by_stage = {record.stage: record for record in records}
    rows = []
    for record in records:
        if not has_own_row(record.stage, by_stage):
            continue
        evaluation = evaluation_record(records, record.stage)
        beside = by_stage.get(evaluation_stage(record.stage))
        rows.append(
            StageRow(
                record,
                execution_id(record),
                stage_state(record),
                gates_words(gates_of(record)),
                evaluation if evaluation is not record else None,
                beside if beside and beside.failure else None,
                evaluation_number(evaluation, "accuracy"),
                evaluation_number(evaluation, "mean_tokens"),
            )
        )
    return rows


def gates_of(record: StageRecord) -> list[Gate]:
    """The gates that a stage passed or failed at."""
    return [_gate(raw) for raw in record.gates]


def _gate(raw: Mapping[str, Any]) -> Gate:
    rules = tuple(sorted(map(_rule, mappings(raw.get("checks"))), key=lambda rule: GATE_ORDER.index(rule.state)))
    whole = all(rule.state == "held" for rule in rules)
    state = "broken" if raw.get("passed") is not True else "held" if whole else "warned"
    return Gate(str(raw.get("gate", "gate")), state, raw.get("rows"), rules)


def _rule(raw: Mapping[str, Any]) -> Rule:
    state = "held" if raw.get("success") is True else "warned" if raw.get("severity") == "warn" else "broken"
    if raw.get("error"):
        result = f"could not be checked: {raw['error']}"
    elif raw.get("unexpected") is not None:
        result = f"{plain(raw['unexpected'])} rows broke it" if raw["unexpected"] else ""
    else:
        result = f"found {plain(raw['observed'])}" if raw.get("observed") is not None else ""
    examples = tuple(
        (plain(each.get("id", each.get("row"))), " – ".join(plain(each[n]) for n in ("value", "why") if each.get(n)))
        for each in mappings(raw.get("examples"))
    )
    images = tuple(tuple(map(str, _list(each.get("images")))) for each in mappings(raw.get("examples")))
    return Rule(str(raw.get("rule") or raw.get("expectation") or "rule"), state, result, examples, images)


def gates_words(gates: Sequence[Gate]) -> tuple[str, str] | None:
    """State and words for all gates of a stage; None where it has none."""
    states = [gate.state for gate in gates]
    if not states:
        return None
    worst = next((state for state in ("broken", "warned") if state in states), "held")
    return worst, f"{states.count('held')} of {len(states)} held"


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list; none for what is not a list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def words_of(figures: Mapping[str, Any]) -> dict[str, str]:
    """The figures of an evaluation as people read them."""
    shares = ("accuracy", "standard_error")
    return {
        name.replace("_", " "): percent(value) if name in shares else plain(value) for name, value in figures.items()
    }


def plain_figures(record: StageRecord | None) -> dict[str, Any]:
    """The plain figures of the evaluation that a record holds, without domains and responses."""
    return {name: value for name, value in evaluation_figures(record).items() if is_number(value)}


@dataclass(frozen=True)
class EvaluationSummary:
    """How a stage's model did."""

    stage: str
    """Whose model it is."""
    record: StageRecord
    """The record that holds the evaluation."""
    node: str
    """Of the stage whose model it is."""
    figures: Mapping[str, Any]
    domains: Mapping[str, Any]
    """Accuracy by domain."""
    examples: list[Mapping[str, Any]]
    """Some responses to be read, those with the least reward first."""

    @property
    def seconds(self) -> float | None:
        """How long the evaluation took; None where it was part of the stage that made the model."""
        return self.record.seconds if is_evaluation(self.record.stage) else None


def evaluations_of(records: Sequence[StageRecord]) -> list[EvaluationSummary]:
    """The evaluation of each stage's model in a run's records."""
    names = {record.stage for record in records}
    return [
        _summary(record, evaluation)
        for record in records
        if has_own_row(record.stage, names) and (evaluation := evaluation_record(records, record.stage))
    ]


def _summary(record: StageRecord, evaluation: StageRecord) -> EvaluationSummary:
    whole = evaluation_figures(evaluation)
    domains = whole.get("domains")
    by_domain = {
        str(name): each.get("accuracy")
        for name, each in (domains if isinstance(domains, Mapping) else {}).items()
        if isinstance(each, Mapping)
    }
    examples = sorted(mappings(whole.get("examples")), key=lambda each: each.get("reward") or 0.0)
    return EvaluationSummary(
        record.stage, evaluation, execution_id(record), plain_figures(evaluation), by_domain, examples
    )
