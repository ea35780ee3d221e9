"""The page on one evaluation: a model beside the tagged one. As the report's, it asks for nothing else."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra.pictures import Pictures
from steps.report.benchmarks import benchmark_rows
from steps.report.page import NONE, environment
from steps.report.table import MODEL_DIGITS

if TYPE_CHECKING:
    from infra.store.stored_images import StoredImages

FIGURES = (
    ("Accuracy", "accuracy", "percent"),
    ("Its standard error", "standard_error", "percent"),
    ("Tokens, mean", "mean_tokens", "number"),
    ("Tokens, median", "median_tokens", "number"),
    ("Tokens, 99th percentile", "p99_tokens", "number"),
)


def render_evaluation(name: str, comparison: Mapping[str, Any], images: "StoredImages | None" = None) -> str:
    """The page of the recipe `name`; `comparison` is a flows.evaluation.Comparison as JSON, `images` has those of
    prompts."""
    models = [comparison["model"], *([comparison["tagged"]] if comparison["tagged"] else [])]
    evaluations = [model["evaluation"] for model in models]
    checks = comparison["checks"]
    return (
        environment()
        .get_template("evaluation.html.j2")
        .render(
            name=name,
            verdict=comparison["verdict"],
            outcome="" if not checks else "good" if all(check["passed"] for check in checks) else "bad",
            models=[
                {**model, "label": label, "short": model["digest"][:MODEL_DIGITS]}
                for label, model in zip(("The model", f"Tagged {comparison['tag']}"), models, strict=False)
            ],
            problems=evaluations[0]["problems"],
            samples=evaluations[0]["samples"],
            figures=[
                (label, form, [one[key] for one in evaluations], _change(evaluations, key))
                for label, key, form in FIGURES
            ],
            benchmarks=benchmark_rows(zip(("The model", f"Tagged {comparison['tag']}"), evaluations, strict=False)),
            domains=[
                (domain, [one["domains"].get(domain, {}).get("accuracy") for one in evaluations])
                for domain in sorted({domain for one in evaluations for domain in one["domains"]})
            ],
            modalities=_modalities(evaluations),
            responses=_side_by_side(evaluations, Pictures(images.thumbnail if images else None)),
        )
    )


def _change(evaluations: list[dict[str, Any]], key: str) -> str:
    if len(evaluations) < 2 or key == "standard_error":
        return NONE
    change = evaluations[0][key] - evaluations[1][key]
    return f"{100 * change:+.1f} points" if key == "accuracy" else f"{change:+,.0f}"


def _modalities(evaluations: list[dict[str, Any]]) -> list[tuple[str, list[float | None]]]:
    """Accuracy by modality, and the accuracies on twins with the gap between; empty where no model saw images."""
    results = [one.get("modalities") or {} for one in evaluations]
    rows = [
        (label, [result.get(name, {}).get("accuracy") for result in results])
        for label, name in (("Text alone", "text"), ("With images", "image"))
        if any(name in result for result in results)
    ]
    twins = [one.get("twins") or {} for one in evaluations]
    if any(twins):
        texts, drawn = ([one.get(f"{name}_accuracy") for one in twins] for name in ("text", "image"))
        gaps = [None if one is None else one - other for one, other in zip(texts, drawn, strict=True)]
        rows += [("Drawn problems, in text", texts), ("Drawn problems, as images", drawn), ("Consistency gap", gaps)]
    return rows


def _side_by_side(evaluations: list[dict[str, Any]], pictures: Pictures) -> list[dict[str, Any]]:
    """Each problem with responses to be read, with every model's response or None."""
    examples = [{each["problem_id"]: each for each in one["examples"]} for one in evaluations]
    return [
        {
            **each,
            "pictures": pictures.of(each.get("images") or []),
            "responses": [of_model.get(problem) for of_model in examples],
        }
        for problem, each in examples[0].items()
    ]
