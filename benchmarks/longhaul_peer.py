"""Longhaul's side of benchmarks/against_trl.py: RL on one case, timed. The last line printed is the side's figures."""

from infra.environment import enter_engine_environment

enter_engine_environment()

import json  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from benchmarks.peer_common import Clock, CountedChat, scorer_of  # noqa: E402
from infra.inference.engine import EngineConfig  # noqa: E402
from infra.progress.logs import output, quiet_to  # noqa: E402
from infra.training.trainer import TrainerConfig  # noqa: E402
from steps.configs.rl import RlConfig  # noqa: E402
from steps.problem import load_problems  # noqa: E402
from steps.rl.checkpoint import Checkpoints  # noqa: E402
from steps.rl.iteration import reinforce  # noqa: E402
from steps.rl.metrics import key  # noqa: E402
from steps.workbench import open_workbench  # noqa: E402


def main() -> None:
    """Command line: the case as JSON, and a file for what the engines print."""
    case, model = json.loads(sys.argv[1]), Path(json.loads(sys.argv[1])["model"])
    chat = CountedChat(model)
    clock = Clock(chat, case["warm_up"])

    def log(metrics: dict[str, Any]) -> None:
        clock.iteration_ended(int(metrics[key("rollout_tokens")]), metrics[key("rollout_seconds")])

    engine, trainer = EngineConfig(**case["engine"]), TrainerConfig(**case["trainer"])
    with (
        quiet_to(Path(sys.argv[2])),
        tempfile.TemporaryDirectory() as checkpoints,
        open_workbench(
            model,
            engine=engine,
            trainer=trainer,
            seed=case["seed"],
            scorer=lambda: scorer_of(case),
            log=log,
            chat=chat,
        ) as bench,
    ):
        config, problems = RlConfig(**case["rl"]), load_problems(Path(case["problems"]))
        counted = reinforce(bench, problems, {}, config, Checkpoints(Path(checkpoints))).history[case["warm_up"] :]
    means = {
        name: statistics.fmean(one.values()[name] for one in counted) for name in ("groups_done", "no_signal_share")
    }
    print(json.dumps(clock.figures() | means), file=output)


if __name__ == "__main__":
    main()
