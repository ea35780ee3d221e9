"""The RL stage, and long2short RL, which is the same with other settings.

longhaul run --config configs/nano.yaml --only rl
longhaul run --config configs/nano.yaml --only long2short/rl
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from infra.lineage.sample_row import KIND
from infra.stages.contract import StageContext, StageOutput
from steps.configs.rl import RlConfig
from steps.gates.gates import Gates
from steps.problem import Problem, load_problems, save_rows
from steps.rewards.load import open_reward_model
from steps.rewards.reward_model import RewardModel
from steps.rl.checkpoint import Checkpoints, Origin
from steps.rl.iteration import reinforce
from steps.rl.ledger import ledger_table
from steps.rl.metrics import stage_metrics
from steps.stages.settings import TrainSettings
from steps.stages.trained import trained
from steps.stages.training import workbench


def judged_by(problems: Sequence[Problem], config: RlConfig) -> list[Problem]:
    """The problems, those of mathematics with the verifier that the configuration chooses. Programs are always run."""
    if config.reward == "rules":
        return list(problems)
    return [p.model_copy(update={"verifier": config.reward}) if p.verifier == "math" else p for p in problems]


def run(context: StageContext, settings: TrainSettings[RlConfig]) -> StageOutput:
    """Outputs the policy after the last iteration, the ledger of the prompts that it was trained on, and the samples:
    a file of responses for each iteration. What iterations start from is kept beside them.

    The input `classic_rm` or `cot_rm` is there where `reward` names it, `fork` and `fork_samples` where RL continues
    from an iteration of another run. What the policy is evaluated by are the rules.
    """
    prompts = context.inputs["prompts"]
    problems = judged_by(load_problems(prompts / "problems.jsonl"), settings.own)
    pass_rates = json.loads((prompts / "pass_rates.json").read_text())

    def reward_models() -> dict[str, RewardModel]:
        reward = settings.own.reward
        return {} if reward == "rules" else {reward: open_reward_model(context.inputs[reward], settings.engine)}

    forks = "fork" in context.inputs
    origin = Origin(context.inputs["fork"], context.inputs["fork_samples"]) if forks else None
    checkpoints = Checkpoints(context.checkpoints, settings.own.keep_every, origin)
    with workbench(context, settings, reward_models) as bench:
        state = reinforce(bench, problems, pass_rates, settings.own, checkpoints)
        with Gates(context, settings.gates) as gates:
            gates.table("ledger", ledger_table(state.ledger))
        save_rows(context.folder / "ledger" / "ledger.jsonl", state.ledger)
        metrics = stage_metrics(state.history) | {"verdicts": dict(bench.scorer.counts)}
        outputs = {"ledger": ("dataset", context.folder / "ledger"), "samples": (KIND, checkpoints.samples)}
        headline = f"{len(state.history)} iterations, {len(state.ledger)} groups"
        output = trained(context, bench.trainer, metrics, outputs, headline)
        return replace(output, iterations=checkpoints.retained)
