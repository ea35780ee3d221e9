"""The stage of direct preference optimisation (§2.4).

longhaul run --config configs/nano.yaml --only long2short/dpo
"""

from dataclasses import asdict

from infra.stages.contract import StageContext, StageOutput
from steps.configs.dpo import DpoConfig
from steps.gates.gates import Gates
from steps.long2short.dpo import dpo, pair_table, preference_rows, sample_pairs
from steps.problem import load_problems
from steps.samples import keep_samples
from steps.stages.settings import TrainSettings
from steps.stages.trained import trained
from steps.stages.training import workbench


def run(context: StageContext, settings: TrainSettings[DpoConfig]) -> StageOutput:
    """Prefer the shortest right response to longer ones."""
    problems = load_problems(context.inputs["prompts"] / "problems.jsonl")
    with workbench(context, settings) as bench:
        pairs = sample_pairs(bench, problems, settings.own)
        with Gates(context, settings.gates) as gates:
            gates.table("preference pairs", pair_table(bench.chat, pairs))
        result = dpo(bench, pairs, settings.own)
        rows = preference_rows(bench.chat, pairs, settings.own.epochs)
        samples = {"samples": keep_samples(context.folder, rows)}
        headline = f"{result.agreement:.0%} of {result.pairs} pairs agreed with"
        return trained(context, bench.trainer, asdict(result), samples, headline)
