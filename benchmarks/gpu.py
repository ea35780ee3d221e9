"""Trainer and engine in turns on one GPU, compared with what `longhaul plan --estimate` predicts.

    python -m benchmarks.gpu

The settings are those of configs/qwen-1.5b-8gpu.yaml with one rank and one engine. The model has that shape and random
weights: neither speed nor memory depends on what a model has learned. Every response is forced to a given length.

- `training`: tokens per second of optimizer steps on full rows of packed examples, and of the reference pass; the
  trainer's peak memory in bytes.
- `handover`: seconds of each phase (§2.6.3), of the first turn and the median of three more, and the bytes in use in
  each side's turn.
- `generation`: tokens per second of as many responses as run at once, all of one length.
- `partial`: partial rollouts against waiting for all, as in benchmarks/partial_rollouts.py, with lengths of median 160,
  σ = 1, the longest 2,048.

`over_estimate` is measured speed over estimated speed. Without a GPU both sides keep their memory, which is only good
for trying out the script: `--model steps/nano_world/checkpoint`. The last line is JSON.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.nano_start import ROOT, machine, never_end
from benchmarks.partial_rollouts import PROMPT, Lengths, Steps, compare, iteration
from infra.environment import enter_engine_environment

LENGTH, LONGEST = 512, 2048
EXAMPLE = 1152
"""Tokens of each example that is trained on: four fill a row."""

MICRO_BATCHES = 4


def untrained(checkpoint: str, folder: Path, context: int) -> Path:
    """A model of a checkpoint's shape with random weights, and the nano base's tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from infra.estimate.shapes import shape_of

    shape = shape_of(checkpoint)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=shape.tied,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False).save_pretrained(folder)
    for file in (ROOT / "steps" / "nano_world" / "checkpoint").glob("*token*"):
        shutil.copyfile(file, folder / file.name)
    never_end(folder, context)
    return folder


def in_use() -> int:
    """Bytes of the GPU that are not free."""
    import torch

    if not torch.cuda.is_available():
        return 0
    free, total = torch.cuda.mem_get_info()
    return int(total - free)


def synchronized() -> float:
    """The time, once the GPU has finished its work."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Bench:
    """One model's trainer and engine, and what the estimate needs to know about them."""

    def __init__(self, checkpoint: str, folder: Path) -> None:
        import torch

        from infra.estimate.devices import DEVICES, device
        from infra.estimate.shapes import shape_of
        from steps.recipe import load_recipe

        self.gpu = torch.cuda.is_available()
        self.name = torch.cuda.get_device_name() if self.gpu else "cpu"
        known = next((each for each in DEVICES if each in self.name.lower()), None)
        if known is None:
            sys.exit(f"the estimate has no device {self.name!r}; it has {', '.join(DEVICES)}")
        self.card = device(known)
        recipe = load_recipe(ROOT / "configs" / "qwen-1.5b-8gpu.yaml")
        self.trainer_config = recipe.trainer.model_copy(update={"ranks": 1})
        cache = {} if self.gpu else {"kv_cache_mb": 512}
        self.engine_config = recipe.engine.model_copy(update={"workers": 1, **cache})
        self.length = recipe.rl.sequence_length
        self.shape = shape_of(checkpoint)
        self.model = untrained(checkpoint, folder, self.engine_config.context)
        self.rng = random.Random(0)

    def training(self) -> dict[str, Any]:
        """Optimizer steps and reference passes."""
        import torch

        from infra.estimate.memory import trainer_memory
        from infra.estimate.speed import training_time
        from infra.training.trainer import Trainer
        from steps.packing import pack
        from steps.supervised import response_loss
        from steps.token_example import TokenExample

        began = synchronized()
        self.trainer = Trainer(self.model, self.trainer_config, seed=0)
        start = synchronized() - began
        at_once = max(1, self.trainer_config.micro_batch_tokens // self.length)
        examples = [
            TokenExample([self.rng.randrange(5, 200) for _ in range(EXAMPLE)], EXAMPLE // 4)
            for _ in range(MICRO_BATCHES * at_once * (self.length // EXAMPLE))
        ]
        rows = list(pack(examples, self.length, at_once))
        loss = response_loss(rows)
        self.step = lambda: self.trainer.step(rows, loss, learning_rate=1e-6)
        tokens = sum(batch.tokens.numel() for batch in rows)
        seconds = timed(self.step, 3)
        held = torch.cuda.max_memory_allocated() if self.gpu else 0
        reference = timed(lambda: self.trainer.reference_logprobs(rows), 2)
        estimated = [
            training_time(self.shape, self.trainer_config, self.card, 1, tokens, self.length, EXAMPLE, each).seconds
            for each in (False, True)
        ]
        self.memory = trainer_memory(self.shape, self.trainer_config, at_once, self.length)
        return {
            "start_seconds": start,
            "tokens_per_second": tokens / seconds,
            "estimated_tokens_per_second": tokens / estimated[0],
            "over_estimate": estimated[0] / seconds,
            "reference_tokens_per_second": tokens / reference,
            "estimated_reference_tokens_per_second": tokens / (estimated[1] - estimated[0]),
            "bytes": held,
            "estimated_bytes": self.memory.total,
        }

    def handover(self) -> dict[str, Any]:
        """Turns of trainer and engine. Leaves the turn to the engine."""
        from infra.configs import HandoverConfig
        from infra.estimate.speed import turn_seconds
        from infra.inference.engine import Engine
        from infra.inference.requests import Request
        from infra.weights.handover import HandOver

        if self.gpu:
            self.trainer.offload("optimizer")
        began = synchronized()
        self.engine = Engine(self.model, self.engine_config)
        start = synchronized() - began
        turns = HandOver(self.trainer, self.engine, HandoverConfig(share_device=self.gpu))
        phases: dict[str, list[float]] = {}
        used: dict[str, int] = {}
        for turn in range(4):
            there = turns.to_rollout()
            used["rollout"] = in_use()
            self.engine.generate_all([Request([5 + turn, 6, 7], 8, seed=1)])
            back = turns.to_training()
            self.step()
            used["training"] = in_use()
            for phase, seconds in (there | back).items():
                phases.setdefault(phase, []).append(seconds)
        turns.to_rollout()
        medians = {phase: statistics.median(each[1:]) for phase, each in phases.items()}
        first = {phase: each[0] for phase, each in phases.items()}
        return {
            "engine_start_seconds": start,
            "seconds": medians,
            "first": first,
            "estimated_seconds": turn_seconds(self.shape, self.engine_config, self.memory.offloaded * self.gpu),
            "bytes_in_use": used,
        }

    def generation(self) -> dict[str, Any]:
        """As many responses as run at once, all of LENGTH tokens."""
        from infra.estimate.memory import engine_memory
        from infra.estimate.speed import decoding_time
        from infra.inference.requests import Request

        count = self.engine_config.max_sequences

        def generate() -> None:
            prompts = [[self.rng.randrange(5, 200) for _ in range(PROMPT)] for _ in range(count)]
            self.engine.generate_all([Request(prompt, LENGTH, seed=i) for i, prompt in enumerate(prompts)])

        seconds = timed(generate, 2)
        capacity = engine_memory(self.shape, self.engine_config, self.card).capacity
        expected = decoding_time(
            self.shape, self.engine_config, self.card, capacity, count, PROMPT * count, PROMPT, LENGTH, LENGTH
        ).seconds
        return {
            "tokens_per_second": count * LENGTH / seconds,
            "estimated_tokens_per_second": count * LENGTH / expected,
            "over_estimate": expected / seconds,
            "step_seconds": seconds / LENGTH,
        }

    def partial(self, rounds: int) -> dict[str, Any]:
        """Partial rollouts against waiting for all."""
        lengths = [min(LONGEST, max(1, round(self.rng.lognormvariate(5.075, 1.0)))) for _ in range(4096)]
        iteration(self.engine, [Lengths([32]).new() for _ in range(8)], 32, Steps())
        return compare(self.engine, lengths, LONGEST, rounds)


def timed(work: Callable[[], Any], times: int) -> float:
    """Seconds of the fastest run except the first, which warms up."""
    seconds = []
    for _ in range(times):
        began = synchronized()
        work()
        seconds.append(synchronized() - began)
    return min(seconds[1:])


def measure(checkpoint: str, rounds: int, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """All figures; each part's are printed as soon as they exist."""
    began = time.perf_counter()
    bench = Bench(checkpoint, folder)
    results: dict[str, Any] = {"device": bench.name, "model": checkpoint, "machine": machine()}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "training": bench.training,
        "handover": bench.handover,
        "generation": bench.generation,
    }
    if rounds:
        parts["partial"] = lambda: bench.partial(rounds)
    for part, work in parts.items():
        results[part] = work()
        tell(f"{time.perf_counter() - began:4.0f} s  {part}: {json.dumps(results[part])}\n")
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-1.5B", help="Whose shape to use: a folder, or a known name.")
    parser.add_argument("--rounds", type=int, default=2, help="Batches of waiting for all; 0 leaves `partial` out.")
    arguments = parser.parse_args()
    from infra.progress.logs import output, quiet_to, terminal

    def tell(line: str) -> None:
        terminal.write(line)
        terminal.flush()

    with tempfile.TemporaryDirectory() as folder, quiet_to(Path(tempfile.gettempdir()) / "gpu.log"):
        output.write(json.dumps(measure(arguments.model, arguments.rounds, Path(folder), tell)) + "\n")
        output.flush()


if __name__ == "__main__":
    enter_engine_environment()
    main()
