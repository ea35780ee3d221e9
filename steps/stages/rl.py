"""The RL stage, and long2short RL, which is the same with other settings."""

import json

from infra.stages import StageContext, StageOutput
from steps.problem import save_rows
from steps.rl.checkpoint import Checkpoints
from steps.rl.config import RlConfig
from steps.rl.iteration import reinforce
from steps.stages.common import StageSettings, finished, gated_problems, held_out, workbench


def run(context: StageContext, settings: StageSettings[RlConfig]) -> StageOutput:
    """Outputs the policy after the last iteration, and the ledger of the prompts that it was trained on."""
    test = held_out(context)
    prompts = context.inputs["prompts"]
    problems = gated_problems(context, prompts / "problems.jsonl", "RL prompts", test)
    pass_rates = json.loads((prompts / "pass_rates.json").read_text())
    with workbench(context, settings, context.inputs["model"]) as bench:
        state = reinforce(bench, problems, pass_rates, settings.own, Checkpoints(context.checkpoints))
        history = state.history
        save_rows(context.folder / "ledger" / "ledger.jsonl", state.ledger)
        metrics = {name: value for name, value in history[-1].items() if name != "iteration"}
        metrics |= {
            "iterations": len(history),
            "tokens": sum(one["rollout_tokens"] for one in history),
            "handover_share": sum(one["handover_seconds"] for one in history)
            / sum(one["handover_seconds"] + one["rollout_seconds"] + one["training_seconds"] for one in history),
        }
        outputs = {"ledger": ("dataset", context.folder / "ledger")}
        return finished(context, bench, settings, test, metrics, outputs)
