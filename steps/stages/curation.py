"""The curation stage: the RL prompt set and its pass rates. It makes no model, and so has no evaluation."""

import json

from infra.files import write_text_atomically
from infra.stages.contract import StageContext, StageOutput
from steps.configs.curation import CurationConfig
from steps.curation import curate
from steps.gates import domain_share_limit
from steps.problem import save_rows
from steps.stages.common import gate_problems, gated_problems, held_out, workbench
from steps.stages.settings import StageSettings


def run(context: StageContext, settings: StageSettings[CurationConfig]) -> StageOutput:
    """Outputs `prompts`: problems.jsonl and pass_rates.json."""
    test = held_out(context, settings)
    problems = gated_problems(context, settings, context.inputs["data"] / "train.jsonl", "train problems", test)
    with workbench(context, settings, context.inputs["model"]) as bench:
        result = curate(bench, problems, settings.own)
    limit = domain_share_limit(result.problems, settings.own.max_domain_share)
    gate_problems(context, settings, "curated prompts", result.problems, test, {"max_domain_share": limit})
    folder = context.folder / "prompts"
    save_rows(folder / "problems.jsonl", result.problems)
    write_text_atomically(folder / "pass_rates.json", json.dumps(result.pass_rates, indent=1, sort_keys=True))
    metrics = {
        "offered": len(problems),
        "kept": len(result.problems),
        "removed": result.removed,
        "domains": result.domains,
        "difficulty": result.difficulty,
    }
    return StageOutput(
        {"prompts": ("dataset", folder)}, metrics, headline=f"{len(result.problems)} of {len(problems)} prompts kept"
    )
