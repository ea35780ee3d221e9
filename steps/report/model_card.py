"""The model card: a README.md that says what a published model is, from the records of what made it.

Names and texts come from users and data sets: each is escaped for Markdown, so that it can neither draw nor link.
"""

import html
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from infra.intervals import interval
from infra.store.evaluation import Evaluation
from infra.store.records import RunRecord, StageRecord
from steps.report.benchmarks import benchmark_rows

LONGEST_TEXT = 300
MOST_SOURCES = 40
"""Lines of the table of data; a set may name a source of its own in each row."""
PRIVATE = ("store", "tracking", "notify", "schedule", "cluster")
"""Sections of a recipe that say where it ran and change no model."""

_ABSOLUTE = re.compile(r"\A(?:file://)?(?:~[^/\s]*)?/(?:[^/\n]+/)*([^/\n]+)/?\Z")
"""A path of this machine, whole: with its last part as a group."""
_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>:])")


@dataclass(frozen=True)
class DataRows:
    """Rows of one data set that a model was trained on or tested with."""

    role: str
    """train, sft, long_cot or test."""
    source: str
    licence: str
    rows: int


@dataclass(frozen=True)
class Card:
    """What a card is written from."""

    model: StageRecord
    """Of the stage that made it."""
    stages: Sequence[StageRecord]
    """That stage and all before it, in order."""
    run: RunRecord | None
    """The start of the run that made it; None where its record is gone."""
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    """By stage, of it and of the models that it was made from."""
    data: Sequence[DataRows] = ()

    @property
    def digest(self) -> str:
        """Of the model."""
        return self.model.outputs["model"].digest

    @property
    def base(self) -> str:
        """Where the base checkpoint came from: a name on the hub with its commit, an s3:// address, or the name of a
        folder."""
        addresses = [address for record in self.stages if record.stage == "import" for address in record.sources]
        if not addresses:
            return "unknown"
        address = addresses[0]
        return address if "://" in address else address.rstrip("/").rpartition("/")[2]


def escaped(text: str) -> str:
    """Text as one line of Markdown that shows it and nothing else."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    short = line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 1]}…"
    return _MARKS.sub(r"\\\1", html.escape(short, quote=False))


def code_block(text: str, language: str = "") -> str:
    """Text in a fence that it cannot close."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    longest = max((len(run) for run in re.findall("`+", clean)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{clean}\n{fence}"


def public_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without the sections that say where it ran, and with the names alone of this machine's files."""
    return {key: _without_folders(value) for key, value in recipe.items() if key not in PRIVATE}


def _without_folders(value: Any) -> Any:
    """A value with the last part alone of each absolute path that it is or holds."""
    if isinstance(value, Mapping):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(one) for one in value]
    return _ABSOLUTE.sub(r"\1", value) if isinstance(value, str) else value


def public_command(command: Sequence[str]) -> str:
    """The command of a run, without what says where it ran, and with the names alone of this machine's files."""
    words: list[str] = []
    rest = iter(command)
    for word in rest:
        if word in ("--set", "-s"):
            setting = next(rest, "")
            if setting.partition("=")[0].partition(".")[0] not in PRIVATE:
                words += [word, _public_word(setting)]
        elif not any(word.startswith(f"--set={name}") for name in PRIVATE):
            words.append(_public_word(word))
    return shlex.join(["longhaul", *words])


def _public_word(word: str) -> str:
    """A word of a command line: a path, KEY=PATH, or another one."""
    key, equals, value = word.rpartition("=")
    return f"{key}{equals}{_without_folders(value)}"


def model_card(card: Card, converted: tuple[str, str] | None = None) -> str:
    """The whole README.md. `converted` are the number formats that weights were evaluated and are published in, where
    they differ."""
    made = card.model
    parts = [
        _front(card),
        f"# {escaped(_recipe_name(card))}: {escaped(made.stage)}",
        "Trained with Longhaul, which reproduces the recipe of the Kimi k1.5 report. Everything below is from the "
        "records of the run.",
        _base(card, converted),
        _figures(card),
        _benchmarks(card),
        _data(card),
        _reproduce(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _recipe_name(card: Card) -> str:
    return str(card.run.recipe.get("name", "model")) if card.run else "model"


def _front(card: Card) -> str:
    """The hub's metadata."""
    meta: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["longhaul", "kimi-k1.5", "reasoning"],
    }
    if card.base.startswith("hf://"):
        meta["base_model"] = card.base.removeprefix("hf://").partition("@")[0]
    datasets = {
        address.removeprefix("hf://").removeprefix("datasets/").partition("@")[0]
        for record in card.stages
        if record.stage == "data"
        for address in record.sources
        if address.startswith("hf://")
    }
    if datasets:
        meta["datasets"] = sorted(datasets)
    return f"---\n{yaml.safe_dump(meta, sort_keys=True)}---"


def _base(card: Card, converted: tuple[str, str] | None) -> str:
    imported = next((record for record in card.stages if record.stage == "import"), None)
    facts = imported.metrics if imported else {}
    parameters = facts.get("parameters")
    size = f", {parameters:,} parameters" if isinstance(parameters, int) else ""
    return (
        "## Base\n\n"
        f"{escaped(card.base)}: {escaped(str(facts.get('architecture', 'unknown architecture')))}{size}. Its licence "
        "and terms apply to this model, too."
        + (f" Weights are in {converted[1]}, as the base has them; figures are of {converted[0]}." if converted else "")
    )


def _figures(card: Card) -> str:
    if not card.evaluations:
        return ""
    rows = []
    for record in card.stages:
        evaluation = card.evaluations.get(record.stage)
        if evaluation is not None:
            low, high = interval(evaluation.accuracy, evaluation.standard_error, evaluation.problems)
            reading = evaluation.answer_reading.replace("_", " ")
            name = f"**{escaped(record.stage)}**" if record is card.model else escaped(record.stage)
            rows.append(
                f"| {name} | {evaluation.accuracy:.1%} | {low:.1%} to {high:.1%} | {evaluation.mean_tokens:.0f} | "
                f"{evaluation.problems} × {evaluation.samples} | {reading} |"
            )
    return (
        "## Figures\n\nOn held-out problems. The interval is the one of 95 %, over problems.\n\n"
        "| model after | accuracy | 95 % | mean tokens | problems × responses | answers read |\n"
        "|---|---:|---:|---:|---:|---|\n" + "\n".join(rows)
    )


def _benchmarks(card: Card) -> str:
    rows = benchmark_rows((stage, evaluation.model_dump()) for stage, evaluation in card.evaluations.items())
    if not rows:
        return ""
    lines = [
        f"| {escaped(row.title)} | {escaped(row.label)} | {row.accuracy:.1%} | {row.low:.1%} to {row.high:.1%} | "
        f"{'' if row.pass_at is None else f'{row.pass_at:.1%} (k = {row.most})'} | "
        f"{'' if row.majority_at is None else f'{row.majority_at:.1%} (k = {row.most})'} | {row.mean_tokens:.0f} | "
        f"{row.problems} × {row.samples}{' (other rows than published)' if row.as_published is False else ''} |"
        for row in rows
    ]
    return (
        "## Benchmarks\n\n| benchmark | model after | avg@n | 95 % | pass@k | maj@k | mean tokens | "
        "problems × responses |\n|---|---|---:|---:|---:|---:|---:|---:|\n" + "\n".join(lines)
    )


def _data(card: Card) -> str:
    if not card.data:
        return ""
    largest = sorted(card.data, key=lambda one: -one.rows)[:MOST_SOURCES]
    rows = [
        f"| {one.role} | {escaped(one.source)} | {escaped(one.licence)} | {one.rows:,} |"
        for one in card.data
        if one in largest
    ]
    if more := len(card.data) - len(rows):
        rest = sum(one.rows for one in card.data) - sum(one.rows for one in largest)
        rows.append(f"| all | {more:,} more sources | of each its own | {rest:,} |")
    return "## Data\n\n| used as | source | licence | rows |\n|---|---|---|---:|\n" + "\n".join(rows)


def _reproduce(card: Card) -> str:
    made = card.model
    code = "an installed package" if made.commit is None else f"commit `{_hex(made.commit)}`"
    changes = " with uncommitted changes" if made.diff else ""
    commands = [f"longhaul run --config recipe.yaml --until {shlex.quote(made.stage)}"]
    lines = [
        "## How to reproduce",
        f"`recipe.yaml` beside this file is the whole recipe. Code: {code}{changes} of Longhaul. Seed: "
        f"{made.seed if made.seed is not None else 'none used'}.",
        code_block("\n".join(commands), "sh"),
    ]
    lines += [
        f"This command is not enough: {escaped(record.stage)} of run {escaped(record.run)} continued from iteration "
        f"{record.forked_from.iteration} of run {escaped(record.forked_from.run)}, whose settings may be others."
        for record in card.stages
        if record.forked_from
    ]
    if card.run is not None and card.run.command:
        lines += [f"The run {escaped(made.run)} was started by:", code_block(public_command(card.run.command), "sh")]
    rows = [f"| {escaped(record.stage)} | `{_hex(record.key)}` | {record.seconds:.0f} s |" for record in card.stages]
    lines += [
        f"Model: `{_hex(card.digest)}` (SHA-256 of the manifest of the checkpoint's files).",
        "| stage | key | took |\n|---|---|---:|\n" + "\n".join(rows),
    ]
    return "\n\n".join(lines)


def _hex(digest: str) -> str:
    return re.sub(r"[^0-9a-f]", "", digest)


def ordered_rows(rows: Iterable[tuple[str, str, str]]) -> list[DataRows]:
    """Counts of rows by role, source and licence, in that order."""
    counts: dict[tuple[str, str, str], int] = {}
    for row in rows:
        counts[row] = counts.get(row, 0) + 1
    return [DataRows(*key, rows=count) for key, count in sorted(counts.items())]
