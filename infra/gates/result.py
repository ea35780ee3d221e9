"""The result of a gate, in words that a record, a message and a page can hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["stop", "warn"]
"""What a rule that does not hold does: stop the stage, or only be reported."""

Outcome = Literal["passed", "warned", "failed"]


class GateFailed(RuntimeError):
    """A table broke a rule; the message names gate, rule, number of rows and the first rows' ids.

    The whole `result` is stored in the stage's record.
    """

    result: "GateResult"


@dataclass(frozen=True)
class GateResult:
    """The result of a gate; `dataclasses.asdict` of it is plain JSON.

    Each of `checks` holds `expectation` (Great Expectations' name of the rule), `column`, `rule` (in words), `severity`
    ("stop" or "warn"), `success`, `unexpected` (number of rows that broke it; None for a rule about the whole table or
    one not evaluated), `examples` (up to 5 of those rows: `row`, counted from 0, `id`, `value`, `why`, None where the
    value says it, and `images`, digests of stored images, where the row has some), `observed` (what a rule about the
    whole table observed) and `error` (why the rule could not be evaluated, otherwise None).
    """

    gate: str
    passed: bool
    """Whether all rules hold that stop a stage."""
    rows: int
    checks: list[dict[str, Any]]
    outcome: Outcome = field(init=False)
    """warned: a rule is broken, and none that stops a stage."""

    def __post_init__(self) -> None:
        broken = not all(check["success"] for check in self.checks)
        outcome = "failed" if not self.passed else "warned" if broken else "passed"
        object.__setattr__(self, "outcome", outcome)

    @classmethod
    def of(cls, gate: str, rows: int, checks: list[dict[str, Any]]) -> "GateResult":
        """The result of a gate's checks."""
        passed = all(check["success"] or check["severity"] == "warn" for check in checks)
        return cls(gate, passed, rows, checks)

    @classmethod
    def from_record(cls, raw: Mapping[str, Any]) -> "GateResult":
        """A result as a stage's record holds it."""
        return cls(raw["gate"], raw["passed"], raw["rows"], raw["checks"])

    def broken(self, severity: Severity) -> list[str]:
        """The broken rules of a severity, in words, with the first rows."""
        return [
            _complaint(check, self.rows)
            for check in self.checks
            if not check["success"] and check["severity"] == severity
        ]

    def raise_if_failed(self) -> None:
        """Raise GateFailed unless all rules hold that stop a stage."""
        if not self.passed:
            error = GateFailed(f"gate {self.gate!r} failed: {'; '.join(self.broken('stop'))}")
            error.result = self
            raise error


def _complaint(check: dict[str, Any], rows: int) -> str:
    rule, name = check["rule"], check["expectation"]
    rule = rule if name in rule else f"{rule} ({name})"
    if check["error"] is not None:
        return f"{rule}: cannot be evaluated: {check['error']}"
    if check["unexpected"] is None:
        return f"{rule}: found {check['observed']!r}"
    examples: Sequence[dict[str, Any]] = check["examples"]
    named = ", ".join(_named(example) for example in examples)
    more = ", …" if check["unexpected"] > len(examples) else ""
    return f"{rule}: {check['unexpected']} of {rows} rows, ids {named}{more}"


def _named(example: dict[str, Any]) -> str:
    return f"{example['id']!r} ({example['why']})" if example["why"] else repr(example["id"])
