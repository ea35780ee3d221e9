"""RL in processes that are killed, for test_checkpoint.py: python rl_process.py MODEL FOLDER SEED KILLS

This process loads everything once and forks: a child runs RL from where FOLDER's checkpoints stand. KILLS children are
killed at times drawn from SEED, one more in each phase, and the last is left to finish. Prints JSON: the result of
a run that nothing disturbed, that of the killed one, and in which phase each child was when it was killed.
"""

import gc
import hashlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import steps.rl.checkpoint
import steps.rl.iteration
from flows.fork_server.server import import_for_stages
from infra.configs import EngineConfig, TrainerConfig
from infra.progress.logs import output, quiet_to
from infra.training.trainer import Trainer
from steps.configs.data import NanoWorldConfig
from steps.configs.rl import LengthRewardConfig, RlConfig
from steps.nano_world.world import generate
from steps.rewards.scorer import Scorer
from steps.rl.checkpoint import Checkpoints
from steps.workbench import open_workbench

CONFIG = RlConfig(
    iterations=12,
    groups=6,
    responses=4,
    max_response_tokens=60,
    token_budget=24,
    updates=2,
    learning_rate=1e-4,
    final_learning_rate=1e-4,
    length_reward=LengthRewardConfig(weight=0.5),
)


def run(model: Path, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """RL from where it stands to its end. Returns what must not depend on interruptions."""
    problems = [
        p for p in generate(NanoWorldConfig(train_problems=48), 0).train if p.domain in ("arithmetic", "search")
    ]
    checkpoints = Checkpoints(folder)
    with open_workbench(model, engine=EngineConfig(max_sequences=32), trainer=TrainerConfig(), seed=0) as bench:
        phases(tell)
        state = steps.rl.iteration.reinforce(bench, problems, {}, CONFIG, checkpoints)
        saved = bench.trainer.save(folder / "final")
    return {
        "weights": hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest(),
        "samples": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in checkpoints.samples.iterdir()},
        "ledger": [entry.model_dump() for entry in state.ledger],
        "history": [{k: v for k, v in one.values().items() if not k.endswith("_seconds")} for one in state.history],
    }


def phases(tell: Callable[[str], None]) -> None:
    """Announce each phase as it begins."""

    def announced(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            tell(name)
            return function(*arguments, **named)

        return wrapped

    steps.rl.iteration.rollout = announced("rollout", steps.rl.iteration.rollout)
    Scorer.submit = announced("reward", Scorer.submit)  # type: ignore[method-assign]
    Trainer.step = announced("training", Trainer.step)  # type: ignore[method-assign]
    Checkpoints.save = announced("saving", Checkpoints.save)  # type: ignore[method-assign]
    steps.rl.checkpoint.folder_written_aside = announced("samples saved", steps.rl.checkpoint.folder_written_aside)
    steps.rl.checkpoint.shutil.rmtree = announced("pruning", steps.rl.checkpoint.shutil.rmtree)  # type: ignore[assignment]


def attempt(model: Path, folder: Path, log: Path, kill_after: float | None, kill_at: str | None) -> tuple[str, Any]:
    """Fork a child; kill it some seconds after RL began, or as soon as it tells of a phase.

    Returns in which phase it was, and its result if it came to its end.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        with quiet_to(log), os.fdopen(sending, "w") as tell:
            result = run(model, folder, lambda phase: print(phase, file=tell, flush=True))
            print(json.dumps(result), file=tell)
        os._exit(0)
    os.close(sending)
    text, phase, deadline = "", "start", None
    while phase != kill_at and (deadline is None or time.monotonic() < deadline):
        ready, _, _ = select.select(
            [receiving], [], [], None if deadline is None else max(0, deadline - time.monotonic())
        )
        if ready:
            chunk = os.read(receiving, 1 << 16).decode()
            if not chunk:
                break
            text += chunk
            phase = (["start", *text.split("\n")[:-1]])[-1]
            if kill_after is not None and deadline is None:
                deadline = time.monotonic() + kill_after
    os.close(receiving)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return ("end", json.loads(phase)) if phase.startswith("{") else (phase, None)


def main() -> None:
    """Command line."""
    import_for_stages()  # for the forks
    gc.freeze()
    model, folder, rng, kills = Path(sys.argv[1]), Path(sys.argv[2]), Random(sys.argv[3]), int(sys.argv[4])
    _, undisturbed = attempt(model, folder / "undisturbed", folder / "log", None, None)
    killed: list[str] = []
    points = ["rollout", "reward", "training", "saving", "samples saved", "pruning"]
    result = None
    while result is None:
        place = points.pop() if points else None
        after = rng.uniform(0, 0.6) if len(killed) < kills + 6 else None
        phase, result = attempt(model, folder / "killed", folder / "log", None if place else after, place)
        if result is None:
            killed.append(phase)
    output.write(json.dumps({"undisturbed": undisturbed, "killed": result, "phases": killed}))
    output.flush()


if __name__ == "__main__":
    main()
