"""The curation stage: the RL prompt set and its pass rates.

longhaul run --config configs/nano.yaml --only curation
"""

import json

from infra.files import write_text_atomically
from infra.stages.contract import StageContext, StageOutput
from infra.vision.folders import ImageFolders
from steps.configs.curation import CurationConfig
from steps.curation import curate, domain_share_limit
from steps.gates.gates import Gates
from steps.image_files import keep_images
from steps.problem import load_problems, save_rows
from steps.stages.sampling import sampling_bench
from steps.stages.settings import GenerateSettings


def run(context: StageContext, settings: GenerateSettings[CurationConfig]) -> StageOutput:
    """Outputs `prompts`: problems.jsonl and pass_rates.json."""
    problems = load_problems(context.inputs["data"] / "train.jsonl")
    with sampling_bench(context, settings) as bench:
        result = curate(bench, problems, settings.own)
        verdicts = dict(bench.scorer.counts)
    limit = domain_share_limit(result.problems, settings.own.max_domain_share)
    with Gates(context, settings.gates) as gates:
        gates.problems("curated prompts", result.problems, max_domain_share=limit)
    folder = context.folder / "prompts"
    save_rows(folder / "problems.jsonl", result.problems)
    keep_images(result.problems, folder, ImageFolders.among(context.inputs.values()))
    write_text_atomically(folder / "pass_rates.json", json.dumps(result.pass_rates, indent=1, sort_keys=True))
    metrics = {
        "offered": len(problems),
        "kept": len(result.problems),
        "removed": result.removed,
        "domains": result.domains,
        "difficulty": result.difficulty,
        "verdicts": verdicts,
    }
    return StageOutput(
        {"prompts": ("dataset", folder)}, metrics, headline=f"{len(result.problems)} of {len(problems)} prompts kept"
    )
