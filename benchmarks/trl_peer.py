"""TRL's side of benchmarks/against_trl.py: `GRPOTrainer` on one case, timed. Runs in TRL's own environment.

The last line printed is the side's figures.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.peer_common import Clock, CountedChat, scorer_of
from steps.problem import load_problems


def main() -> None:
    """Command line: the case as JSON."""
    case = json.loads(sys.argv[1])
    rl, per_pass = case["rl"], case["trl_sequences_per_pass"]
    problems = load_problems(Path(case["problems"]))
    chat, scorer = CountedChat(Path(case["model"])), scorer_of(case)
    clock = Clock(chat, case["warm_up"])
    began, generated, judged = time.perf_counter(), 0, 0.0

    def reward(completion_ids: list[list[int]], problem: list[int], **_: Any) -> list[float]:
        nonlocal generated, judged
        generated = sum(map(len, completion_ids))
        pairs = [(problems[number], chat.text(ids)) for number, ids in zip(problem, completion_ids, strict=True)]
        values = [score.value for score in scorer.score_many(pairs)]
        judged = time.perf_counter()
        return values

    class Ends(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            nonlocal began
            if state.global_step % rl["updates"] == 0:
                clock.iteration_ended(generated, judged - began)
                began = time.perf_counter()

    per_step = rl["groups"] * rl["responses"] // rl["updates"]
    with scorer, tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"},
            num_generations=rl["responses"],
            max_completion_length=rl["max_response_tokens"],
            temperature=rl["temperature"],
            per_device_train_batch_size=per_pass,
            gradient_accumulation_steps=per_step // per_pass,
            steps_per_generation=rl["updates"] * per_step // per_pass,
            max_steps=rl["iterations"] * rl["updates"],
            learning_rate=rl["learning_rate"],
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=case["seed"],
        )
        prompts = [[{"role": "user", "content": problem.text}] for problem in problems]
        data = Dataset.from_dict({"prompt": prompts, "problem": range(len(problems))})
        GRPOTrainer(case["model"], reward, args=config, train_dataset=data, callbacks=[Ends()]).train()
    print(json.dumps(clock.figures()))


if __name__ == "__main__":
    main()
