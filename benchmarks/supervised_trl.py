"""TRL's side of SFT and DPO in benchmarks/against_trl.py, timed. Runs in TRL's own environment.

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
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.real_model_cases import load_supervised


class Clock(TrainerCallback):
    """Measures from the end of the last warm-up step to the end of the last step."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.start = self.end = (0.0, 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the times."""
        self.end = time.perf_counter(), time.process_time()
        if state.global_step == self.warm_up:
            self.start = self.end


def turn(role: str, content: str) -> list[dict[str, str]]:
    """A conversation of one turn."""
    return [{"role": role, "content": content}]


def main() -> None:
    """Command line: the case as JSON."""
    case = json.loads(sys.argv[1])
    rows = load_supervised(Path(case["rows"]))
    clock = Clock(case["warm_up"])
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {
            "output_dir": folder,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "model_init_kwargs": {"dtype": "float32", "attn_implementation": "sdpa"},
            "max_length": case["trl_max_length"],
            "per_device_train_batch_size": case["trl_per_pass"],
            "gradient_accumulation_steps": case["per_step"] // case["trl_per_pass"],
            "max_steps": case["warm_up"] + case["steps"],
            "learning_rate": case["learning_rate"],
            "lr_scheduler_type": "constant",
            "train_sampling_strategy": "sequential",
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "seed": case["seed"],
        }
        prompts = [turn("user", row.prompt) for row in rows]
        better = [turn("assistant", row.response) for row in rows]
        if case["method"] == "sft":
            data = Dataset.from_dict({"prompt": prompts, "completion": better})
            config = SFTConfig(**common, completion_only_loss=True, loss_type=case["trl_loss"])
            trainer = SFTTrainer(case["model"], args=config, train_dataset=data, callbacks=[clock])
            lengths = [len(row["input_ids"]) for row in trainer.train_dataset]
        else:
            worse = [turn("assistant", row.worse) for row in rows]
            data = Dataset.from_dict({"prompt": prompts, "chosen": better, "rejected": worse})
            trainer = DPOTrainer(
                case["model"], args=DPOConfig(**common, beta=case["beta"]), train_dataset=data, callbacks=[clock]
            )
            lengths = [
                2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])
                for row in trainer.train_dataset
            ]
        trainer.train()
    counted = lengths[case["warm_up"] * case["per_step"] :]
    seconds, processor = (end - start for start, end in zip(clock.start, clock.end, strict=True))
    print(json.dumps({"tokens": sum(counted), "seconds": seconds, "processor_seconds": processor}))


if __name__ == "__main__":
    main()
