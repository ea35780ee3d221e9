"""Longhaul's side of SFT and DPO in benchmarks/against_trl.py, timed. The last line printed is the side's figures."""

from infra.environment import enter_engine_environment

enter_engine_environment()

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402
from random import Random  # noqa: E402
from typing import Any  # noqa: E402

from benchmarks.real_model_cases import SupervisedRow, load_supervised  # noqa: E402
from infra.configs import EngineConfig, TrainerConfig  # noqa: E402
from infra.progress.logs import output, quiet_to  # noqa: E402
from steps.configs.dpo import DpoConfig  # noqa: E402
from steps.configs.phase import PhaseConfig  # noqa: E402
from steps.long2short.dpo import Pair, dpo  # noqa: E402
from steps.long2short.responses import JudgedResponse, Responses  # noqa: E402
from steps.problem import Problem  # noqa: E402
from steps.supervised import train  # noqa: E402
from steps.token_example import TokenExample  # noqa: E402
from steps.token_prompt import TokenPrompt  # noqa: E402
from steps.workbench import Workbench, open_workbench  # noqa: E402


def sft_run(bench: Workbench, case: dict[str, Any]) -> Callable[[Sequence[SupervisedRow]], int]:
    """A function that trains on rows for one epoch and returns their tokens."""

    def run(rows: Sequence[SupervisedRow]) -> int:
        examples = [bench.chat.example(row.prompt, row.response) for row in rows]
        tokens = sum(len(example.tokens) for example in examples)
        # A step is full at the mean of its examples' tokens: as many steps as TRL's on average.
        per_step = max(16, -(-tokens * case["per_step"] // len(rows)))
        phase = PhaseConfig(
            sequence_length=case["sequence_length"],
            tokens_per_step=per_step,
            learning_rate=case["learning_rate"],
            final_learning_rate=case["learning_rate"],
        )
        train(bench.trainer, examples, phase, Random(case["seed"]), "SFT", bench.log)
        return tokens

    return run


def dpo_run(bench: Workbench, case: dict[str, Any]) -> Callable[[Sequence[SupervisedRow]], int]:
    """A function that prefers each row's response to its worse one, and returns the tokens of the pairs."""
    config = DpoConfig(
        learning_rate=case["learning_rate"],
        pairs_per_step=case["per_step"],
        sequence_length=case["sequence_length"],
        beta=case["beta"],
    )

    def response(prompt: str, text: str) -> tuple[TokenExample, JudgedResponse]:
        example = bench.chat.example(prompt, text)
        return example, JudgedResponse(list(example.response), True)

    def run(rows: Sequence[SupervisedRow]) -> int:
        pairs, tokens = [], 0
        for number, row in enumerate(rows):
            example, better = response(row.prompt, row.response)
            _, worse = response(row.prompt, row.worse)
            prompt = list(example.tokens[: example.prompt_length])
            problem = Problem(id=str(number), prompt=row.prompt, answer="0", verifier="math", domain="math")
            pairs.append(Pair(Responses(problem, TokenPrompt(prompt), [better, worse]), better, worse))
            tokens += 2 * len(prompt) + len(better.tokens) + len(worse.tokens)
        dpo(bench, pairs, config)
        return tokens

    return run


def main() -> None:
    """Command line: the case as JSON, and a file for what the libraries print."""
    case = json.loads(sys.argv[1])
    rows = load_supervised(Path(case["rows"]))
    warm_up = case["warm_up"] * case["per_step"]
    trainer = TrainerConfig(**case["trainer"])
    with (
        quiet_to(Path(sys.argv[2])),
        open_workbench(
            Path(case["model"]), engine=EngineConfig(**case["engine"]), trainer=trainer, seed=case["seed"]
        ) as bench,
    ):
        run = {"sft": sft_run, "dpo": dpo_run}[case["method"]](bench, case)
        run(rows[:warm_up])
        start, processor = time.perf_counter(), time.process_time()
        tokens = run(rows[warm_up:])
        seconds, processor = time.perf_counter() - start, time.process_time() - processor
    figures = {"tokens": tokens, "seconds": seconds, "processor_seconds": processor}
    print(json.dumps(figures), file=output, flush=True)
    os._exit(0)  # engine and trainer share a process group, whose ends wait for each other


if __name__ == "__main__":
    main()
