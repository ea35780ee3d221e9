"""What pages tell of a stage's record, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.lineage import row_values
from infra.lineage.web.templating import percent, plain
from infra.store.records import StageRecord


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
class Rule:
    """One rule of a gate, and what it found."""

    rule: str
    state: str
    found: str
    examples: tuple[tuple[str, str], ...]
    """Id and value (with the reason, where there is one) of rows that broke it."""


@dataclass(frozen=True)
class Gate:
    """A gate's result."""

    name: str
    state: str
    """held, warned (only rules that warn are broken) or broken."""
    rows: Any
    rules: tuple[Rule, ...]


def gates_of(record: StageRecord) -> list[Gate]:
    """The gates that a stage passed or failed at."""
    return [_gate(raw) for raw in record.gates]


def _gate(raw: Mapping[str, Any]) -> Gate:
    rules = tuple(_rule(check) for check in mappings(raw.get("checks")))
    whole = all(rule.state == "held" for rule in rules)
    state = "broken" if raw.get("passed") is not True else "held" if whole else "warned"
    return Gate(str(raw.get("gate", "gate")), state, raw.get("rows"), rules)


def _rule(raw: Mapping[str, Any]) -> Rule:
    state = "held" if raw.get("success") is True else "warned" if raw.get("severity") == "warn" else "broken"
    if raw.get("error"):
        found = f"could not be checked: {raw['error']}"
    elif raw.get("unexpected") is not None:
        found = f"{plain(raw['unexpected'])} rows broke it" if raw["unexpected"] else ""
    else:
        found = f"found {plain(raw['observed'])}" if raw.get("observed") is not None else ""
    examples = tuple(
        (plain(each.get("id", each.get("row"))), " – ".join(plain(each[n]) for n in ("value", "why") if each.get(n)))
        for each in mappings(raw.get("examples"))
    )
    return Rule(str(raw.get("rule") or raw.get("expectation") or "rule"), state, found, examples)


def gates_words(gates: Sequence[Gate]) -> tuple[str, str] | None:
    """State and words for all gates of a stage; None where it has none."""
    states = [gate.state for gate in gates]
    if not states:
        return None
    worst = next((state for state in ("broken", "warned") if state in states), "held")
    return worst, f"{states.count('held')} of {len(states)} held"


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list; none in what is no list."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def accuracy(record: StageRecord) -> float | None:
    """What the stage's model reached in its evaluation."""
    return row_values.number((record.evaluation or {}).get("accuracy"))


def evaluation_figures(record: StageRecord) -> dict[str, Any]:
    """The plain figures of an evaluation, without domains and responses."""
    return {name: value for name, value in (record.evaluation or {}).items() if is_number(value)}


def evaluation_words(record: StageRecord) -> dict[str, str]:
    """The figures of an evaluation as people read them."""
    shares = ("accuracy", "standard_error")
    return {
        name.replace("_", " "): percent(value) if name in shares else plain(value)
        for name, value in evaluation_figures(record).items()
    }


@dataclass(frozen=True)
class Evaluated:
    """How a stage's model did."""

    stage: str
    node: str
    figures: Mapping[str, Any]
    domains: Mapping[str, Any]
    """Accuracy by domain."""
    shown: list[Mapping[str, Any]]
    """Responses that were kept to be read."""


def evaluated(record: StageRecord) -> Evaluated | None:
    """A stage's evaluation; None where there was none."""
    if not record.evaluation:
        return None
    domains = record.evaluation.get("domains")
    by_domain = {
        str(name): each.get("accuracy")
        for name, each in (domains if isinstance(domains, Mapping) else {}).items()
        if isinstance(each, Mapping)
    }
    shown = mappings(record.evaluation.get("shown"))
    return Evaluated(record.stage, execution_id(record), evaluation_figures(record), by_domain, shown)
