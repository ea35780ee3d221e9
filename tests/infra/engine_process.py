"""Run by tests as a process of its own, for vLLM tears its process group down when an engine is closed.

python engine_process.py sample MODEL     prints [[tokens, log-probabilities], …] of `requests()`
python engine_process.py bfloat16 MODEL   prints the largest difference between a bfloat16 engine's and the float32
                                          trainer's log-probabilities after an update
"""

import json
import sys
from pathlib import Path

from infra.engine import Engine, EngineConfig, Request
from infra.handover import HandOver
from infra.logs import output, quiet_to
from infra.trainer import Trainer, TrainerConfig
from steps.packing import PackedRows, TokenExample, pack
from steps.supervised import response_loss

PROMPTS = [[5 + (7 * i + j) % 200 for j in range(4 + i)] for i in range(12)]


def requests(**changes: object) -> list[Request]:
    """A dozen prompts, each with a seed of its own."""
    return [
        Request(**{"tokens": prompt, "max_tokens": 24, "seed": 100 + i, **changes}) for i, prompt in enumerate(PROMPTS)
    ]


def mismatch(engine: Engine, trainer: Trainer) -> float:
    """Largest difference between the engine's log-probabilities of what it samples and the trainer's."""
    completions = engine.generate_all(requests())
    examples = [TokenExample([*PROMPTS[c.index], *c.tokens], len(PROMPTS[c.index])) for c in completions]
    worst = 0.0
    for rows in pack(examples, 128, 8):
        (trained,) = trainer.reference_logprobs([rows])
        sampled = rows.on_responses([c.logprobs for c in completions])
        worst = max(worst, (trained - sampled)[rows.owners >= 0].abs().max().item())
    return worst


def train_a_little(trainer: Trainer) -> None:
    """Three steps that change every weight."""
    rows: list[PackedRows] = list(pack([TokenExample(list(range(5, 60)), 5)], 64, 1))
    for _ in range(3):
        trainer.step(rows, response_loss(rows), learning_rate=1e-2)


def main() -> None:
    """Command line."""
    task, model, log = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with quiet_to(log):
        if task == "sample":
            engine = Engine(model, EngineConfig(max_sequences=64))
            answer: object = [[c.tokens, c.logprobs] for c in engine.generate_all(requests())]
        else:
            trainer = Trainer(model, TrainerConfig(), seed=0)
            engine = Engine(model, EngineConfig(max_sequences=64, dtype="bfloat16"))
            train_a_little(trainer)
            HandOver(trainer, engine).to_rollout()
            answer = mismatch(engine, trainer)
        output.write(json.dumps(answer))
        output.flush()


if __name__ == "__main__":
    main()
