"""The report as one HTML document that asks for nothing else: no script, no font, no image from anywhere.

Texts of models and data sets go through `for_display` and through escaping, both applied by the template engine to
every value, so that no place of the template can forget them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from infra.gates.page import render_html
from infra.gates.result import GateResult
from infra.pictures import Pictures
from infra.store.evaluation_stages import evaluation_figures, evaluation_record, is_evaluation
from infra.store.records import StageRecord
from infra.text import for_display
from steps.report import context_figures, figures
from steps.report.benchmarks import benchmark_rows
from steps.report.modalities import gap_figure
from steps.report.table import by_stage, evaluated_models, modality_rows, report_rows, reward_model_rows

if TYPE_CHECKING:
    from infra.store.stored_images import StoredImages

NONE = "–"
"""A table's cell without a figure."""


def render_report(name: str, records: Sequence[StageRecord], images: "StoredImages | None" = None) -> str:
    """The report on the recipe `name`, of all stages or of some; `images` has those of prompts.

    Raises ValueError if a stage has two records.
    """
    stages = by_stage(records)
    pictures = Pictures(images.thumbnail if images else None)
    evaluations = evaluated_models(records)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            name=name,
            facts=_facts(stages.values()),
            rows=_rows(records),
            evaluated_on=_evaluated_on(evaluations.values()),
            efficiency=[
                figure
                for size in ((880, 440), (380, 400))
                # One point compares nothing.
                if len(evaluations) > 1 and (figure := figures.token_efficiency_figure(records, *size)) is not None
            ],
            lengths=[
                figure
                for draw in (context_figures.limits_figure, context_figures.lengths_figure)
                if (figure := draw(evaluations)) is not None
            ],
            contexts=context_figures.context_rows(evaluations),
            rl=[(record, curves) for record in stages.values() if (curves := figures.rl_figures(record))],
            losses=[
                figure
                for record in stages.values()
                # RL logs no loss; what it logs has its own figures.
                if (figure := figures.loss_figure(record)) is not None
            ],
            benchmarks=benchmark_rows((stage, evaluation_figures(one)) for stage, one in evaluations.items()),
            modalities=modality_rows(evaluations),
            gap=gap_figure(evaluations),
            domains=_domains(evaluations),
            curation=_curation(stages.get("curation")),
            teacher=_teacher(stages.get("long_cot_paths")),
            long_cot=_long_cot(stages.get("long_cot_sft")),
            reward_models=reward_model_rows(records),
            gates=_gates(stages.values(), pictures),
            samples=_samples(evaluations, pictures),
            stages=[_stage(record) for record in stages.values()],
        )
    )


def environment() -> Environment:
    """How the report's templates are rendered: every text escaped, and made fit to be shown."""
    made = Environment(
        loader=PackageLoader("steps.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: (
            for_display(value) if isinstance(value, str) and not isinstance(value, Markup) else value
        ),
    )
    filters: dict[str, Callable[..., Any]] = {
        "percent": lambda value: NONE if value is None else f"{value:.1%}",
        "number": lambda value, digits=0: NONE if value is None else f"{value:,.{digits}f}",
        "duration": _duration,
        "size": _size,
        "figure": lambda figure: Markup(figure.svg),
    }
    made.filters |= filters
    return made


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None)) or NONE


def _facts(records: Iterable[StageRecord]) -> dict[str, str]:
    """What the page's head says of the run."""
    records = list(records)
    started = sorted(record.started for record in records)
    return {
        "Run": _distinct(record.run for record in records),
        "Seed": _distinct(record.seed for record in records),
        "Commit": _distinct(record.commit[:12] if record.commit else None for record in records),
        "Date": started[-1].replace("T", " ").replace("+00:00", " UTC") if started else NONE,
    }


def _rows(records: Sequence[StageRecord]) -> list[dict[str, Any]]:
    """The final table's rows with what only the page shows."""
    stages = by_stage(records)
    rows = []
    for row in report_rows(records):
        evaluation = evaluation_record(records, row["stage"])
        extra = {
            "standard_error": evaluation_figures(evaluation).get("standard_error"),
            "reused_from": stages[row["stage"]].reused_from,
            "forked_from": str(fork) if (fork := stages[row["stage"]].forked_from) else None,
        }
        rows.append(row | extra)
    return rows


def evaluation_settings(record: StageRecord) -> Mapping[str, Any]:
    """The settings of the evaluation that a record holds: an evaluation's own, or those beside a stage's."""
    return _mapping(record.config.get("evaluation", record.config.get("own") if is_evaluation(record.stage) else None))


def _evaluated_on(evaluations: Iterable[StageRecord]) -> list[str]:
    """How the models were evaluated, in words; more than one line if not all in the same way."""
    lines = []
    for record in evaluations:
        figures = evaluation_figures(record)
        settings = evaluation_settings(record)
        words = f"{figures.get('problems')} held-out problems, {figures.get('samples')} responses to each"
        if "temperature" in settings:
            words += f", temperature {settings['temperature']}"
        if "max_response_tokens" in settings:
            words += f", at most {settings['max_response_tokens']} tokens"
        lines.append(words)
    return list(dict.fromkeys(lines))


def _domains(evaluations: Mapping[str, StageRecord]) -> dict[str, Any] | None:
    """By domain: the domains with their number of problems, and each model's results in that order."""
    results = {stage: _mapping(evaluation_figures(record).get("domains")) for stage, record in evaluations.items()}
    names = sorted({name for result in results.values() for name in result})
    if not names:
        return None
    return {
        "names": [
            (name, _distinct(_mapping(result.get(name)).get("problems") for result in results.values()))
            for name in names
        ],
        "rows": [
            (
                stage,
                [
                    (_mapping(result.get(name)).get("accuracy"), _mapping(result.get(name)).get("mean_tokens"))
                    for name in names
                ],
            )
            for stage, result in results.items()
        ],
    }


def _curation(record: StageRecord | None) -> dict[str, Any] | None:
    if record is None or not record.metrics:
        return None
    metrics = record.metrics
    return {
        "offered": metrics.get("offered"),
        "kept": metrics.get("kept"),
        "removed": _mapping(metrics.get("removed")),
        "domains": _mapping(metrics.get("domains")),
        "difficulty": figures.difficulty_figure(_mapping(metrics.get("difficulty"))),
    }


def _teacher(record: StageRecord | None) -> dict[str, Any] | None:
    """What became of a teacher's answers, and which behaviours its paths show."""
    if record is None or not record.metrics:
        return None
    metrics = record.metrics
    return {
        "name": str(metrics.get("teacher", NONE)),
        "answers": metrics.get("answers"),
        "paths": metrics.get("paths"),
        "outcomes": _mapping(metrics.get("outcomes")),
        "behaviours": _mapping(metrics.get("behaviours")),
        "instructions": {name: _mapping(counts) for name, counts in _mapping(metrics.get("instructions")).items()},
    }


def _long_cot(record: StageRecord | None) -> dict[str, Any] | None:
    if record is None or not record.metrics:
        return None
    names = {
        "candidates": "Candidates",
        "of_curated_problems": "Of problems that curation retained",
        "verified": "Verified as right",
        "chosen": "Chosen to train on",
    }
    return {
        "steps": [(label, record.metrics[name]) for name, label in names.items() if name in record.metrics],
        "behaviours": _mapping(record.metrics.get("behaviours")),
        "chosen": record.metrics.get("chosen"),
    }


def _gates(records: Iterable[StageRecord], pictures: Pictures) -> list[dict[str, Any]]:
    """Each stage's gates: how many of how many rules hold, and the whole as HTML."""
    stages = []
    for record in records:
        if not record.gates:
            continue
        results = [GateResult.from_record(gate) for gate in record.gates]
        rules = [check["success"] for result in results for check in result.checks]
        outcomes = {result.outcome for result in results}
        stages.append(
            {
                "stage": record.stage,
                "gates": len(results),
                "rules": len(rules),
                "held": sum(rules),
                "outcome": next(one for one in ("failed", "warned", "passed") if one in outcomes),
                "html": Markup(render_html(results, pictures)),
            }
        )
    return stages


def _samples(evaluations: Mapping[str, StageRecord], pictures: Pictures) -> list[dict[str, Any]]:
    """Responses to be read, by problem: what each model answered to the same prompt stands side by side."""
    problems: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = {}
    for stage, record in evaluations.items():
        figures = evaluation_figures(record)
        for sample in figures.get("examples", []):
            problem = problems.setdefault(
                (sample["problem_id"], sample["prompt"], tuple(sample["images"])),
                {
                    "id": sample["problem_id"],
                    "domain": sample["domain"],
                    "prompt": sample["prompt"],
                    "images": len(sample["images"]),
                    "responses": [],
                },
            )
            problem["responses"].append({"stage": stage, **sample})
    for (_, _, digests), problem in problems.items():
        problem["pictures"] = pictures.of(digests)
    return list(problems.values())


def _stage(record: StageRecord) -> dict[str, Any]:
    """How a stage's outputs came to be."""
    return {
        "record": record,
        "started": record.started.replace("T", " ").replace("+00:00", " UTC"),
        "sources": record.sources,
        "config": _json(record.config),
        "metrics": _json(record.metrics),
    }


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
