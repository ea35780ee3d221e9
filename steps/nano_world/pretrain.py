"""Pretrains the nano base that the project ships in `checkpoint/`: Qwen2 architecture, about 1M parameters.

Not a stage of the recipe (the report's §2.5.1 is what the import stage takes as given): it stands here so that the
shipped checkpoint can be made again. A plain PyTorch loop over packed text; about ten minutes on two cores:

    python -m steps.nano_world.pretrain steps/nano_world/checkpoint
"""

import argparse
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import track
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from steps.configs.data import NanoWorldConfig
from steps.nano_world.corpus import documents
from steps.nano_world.tokenizer import train_tokenizer
from steps.nano_world.world import generate

VOCABULARY = 768
CONTEXT = 512
ROWS, LENGTH = 16, 256
SEED = 0


def tokenizer_texts() -> list[str]:
    """What the tokenizer is trained on: documents, and the phrases of the chat format."""
    world = generate(NanoWorldConfig(), SEED)
    chat = [f"user\n{e.prompt}" for e in world.sft + world.long_cot]
    chat += [f"assistant\n{e.response}" for e in world.sft + world.long_cot * 3]
    return list(itertools.islice(documents(SEED), 20_000)) + chat


def nano_model() -> Qwen2ForCausalLM:
    """A freshly initialised nano model in float32."""
    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def token_weights(tokenizer: PreTrainedTokenizerFast, dull: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How much predicting a token counts, by the token before it and by itself.

    What follows an equals sign or an arrow, and every yes and no, can be known; operands are often drawn at random,
    and their loss would be noise: they count `dull`.
    """
    texts = [str(tokenizer.decode([token])) for token in range(VOCABULARY)]
    after = [1.0 if text.rstrip().endswith(("=", "->")) else dull for text in texts]
    itself = [1.0 if "yes" in text or "no" in text else dull for text in texts]
    return torch.tensor(after), torch.tensor(itself)


def batches(tokenizer: PreTrainedTokenizerFast, phase: "Phase") -> Iterator[torch.Tensor]:
    """Endless token batches [ROWS, LENGTH] of documents joined by the end-of-text token."""
    buffer: list[int] = []
    texts = documents(SEED + 1, phase.cooldown)
    while True:
        while len(buffer) < ROWS * LENGTH:
            for ids in tokenizer(list(itertools.islice(texts, 256)))["input_ids"]:
                buffer += [*ids, tokenizer.pad_token_id]
        yield torch.tensor(buffer[: ROWS * LENGTH]).view(ROWS, LENGTH)
        buffer = buffer[ROWS * LENGTH :]


@dataclass(frozen=True)
class Phase:
    """One phase of pretraining, as §2.5.1 has a main phase and a cooldown."""

    name: str
    steps: int
    peak: float
    """Learning rate of Muon after warm-up; AdamW, for embeddings and norms, has a fifth of it."""
    dull: float
    """Weight of tokens that follow no equals sign."""
    cooldown: bool


PHASES = (
    Phase("main", steps=2000, peak=2e-2, dull=0.1, cooldown=False),
    Phase("cooldown", steps=2400, peak=1e-2, dull=0.5, cooldown=True),
)


def train(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, phase: Phase) -> None:
    """One phase: Muon on the matrices, AdamW on the rest, cosine decay to 2 % of the peak rate."""
    optimizers = [
        torch.optim.Muon([p for p in model.model.layers.parameters() if p.ndim == 2], lr=phase.peak, weight_decay=0.01),
        torch.optim.AdamW(
            [p for p in model.parameters() if p.ndim != 2] + list(model.get_input_embeddings().parameters()),
            lr=phase.peak / 5,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]
    warmup = max(1, phase.steps // 50)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda i: min((i + 1) / warmup, 0.02 + 0.98 * (1 + math.cos(math.pi * i / phase.steps)) / 2)
        )
        for optimizer in optimizers
    ]
    after, itself = token_weights(tokenizer, phase.dull)
    stream = batches(tokenizer, phase)
    for step in track(range(phase.steps), phase.name):
        tokens = next(stream)
        logits = model(input_ids=tokens).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        weight = torch.maximum(after[tokens[:, :-1]], itself[tokens[:, 1:]]).flatten()
        loss = (losses * weight).sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        model.zero_grad()
        if step % 100 == 0 or step == phase.steps - 1:
            print(f"{phase.name}, step {step}: loss {loss.item():.3f}", flush=True)


def pretrain(folder: Path, start: Path | None) -> None:
    """Train, and write tokenizer and model to `folder` in Hugging Face format (bfloat16 weights).

    With `start`, the checkpoint that the main phase left, only the cooldown is run.
    """
    tokenizer = train_tokenizer(tokenizer_texts(), VOCABULARY)
    model = nano_model() if start is None else Qwen2ForCausalLM.from_pretrained(start, dtype=torch.float32)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    for phase in PHASES if start is None else PHASES[1:]:
        train(model, tokenizer, phase)
        # A phase ends in the precision that is stored, so that continuing from a file is the same.
        model.bfloat16().save_pretrained(folder if phase is PHASES[-1] else folder.with_name("main_phase"))
        model.float()
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=Path, help="A checkpoint after the main phase: run the cooldown alone.")
    arguments = parser.parse_args()
    pretrain(arguments.folder, arguments.start)


if __name__ == "__main__":
    main()
