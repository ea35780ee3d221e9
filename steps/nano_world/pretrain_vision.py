"""Trains the tower of the nano base that sees (steps/nano_world/vision_base.py) to read; the language model stays.

The tower learns to say what stands in each cell of a picture: for a number, the embedding of its token; for two
characters, a code of each; for a shape, the codes of its initial and its colour's; for the foot of a bar, the embedding
of its height. Counting, comparing and solving are left to the language model, which
supervised fine-tuning teaches. Not a stage of the recipe, as steps/nano_world/pretrain.py is not:

    python -m steps.nano_world.pretrain_vision steps/nano_world/vision_checkpoint
"""

import argparse
import math
import string
import time
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from steps.nano_world.drawing import Picture
from steps.nano_world.drawn_text import COLUMNS, draw_text
from steps.nano_world.pictures import SCENES
from steps.nano_world.vision_base import FRAMES, MERGE, PATCH, SEED, vision_model, vision_tokenizer, write_base
from steps.nano_world.world import DIFFICULTIES, DOMAINS, make_task

STEPS, IMAGES, RATE = 400, 12, 3e-3
TEXT_ROWS = 766
"""Of the embedding: tokens that the text base's tokenizer has."""
CHARACTERS = string.ascii_letters + string.punctuation


def patches(picture: Picture) -> tuple[Tensor, tuple[int, int, int]]:
    """Pixels as Qwen's processor gives them [patches, values], and the grid: time, height and width in patches."""
    image = picture.image
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, 3)
    scaled = pixels.permute(2, 0, 1).float().div(127.5).sub(1)
    high, wide = image.height // PATCH, image.width // PATCH
    grid = scaled.expand(FRAMES, -1, -1, -1).reshape(
        FRAMES, 3, high // MERGE, MERGE, PATCH, wide // MERGE, MERGE, PATCH
    )
    return grid.permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(high * wide, -1), (1, high, wide)


class Words:
    """What the tower is to say of a label.

    The text base has hardly trained the embeddings of single characters, which are nearly the same vector. They get
    random ones, as large as the others, one for each of the two places in a cell.
    """

    def __init__(self, tokenizer: Any, table: Tensor) -> None:
        self._tokenizer, self._table = tokenizer, table
        size = table[:TEXT_ROWS].square().mean().sqrt()
        self._codes = size * torch.randn(2, 128, table.shape[1], generator=torch.Generator().manual_seed(SEED))
        self._known: dict[str, Tensor] = {}

    def __call__(self, label: str) -> Tensor:
        """A vector [width]: of a number, its token's embedding; of an empty cell, zeros."""
        if label not in self._known:
            self._known[label] = self._of(label)
        return self._known[label]

    def _of(self, label: str) -> Tensor:
        number = label.strip()
        if number.isdecimal():
            return self._table[self._tokenizer(number, add_special_tokens=False)["input_ids"][0]]
        codes = [self._codes[place, ord(character)] for place, character in enumerate(label) if character != " "]
        return sum(codes, torch.zeros_like(self._table[0]))


def random_text(rng: Random) -> Picture:
    """Cells of two characters or a number each, all as frequent as the others."""
    rows = rng.randint(1, 4)
    picture = Picture(COLUMNS, rows)
    for row in range(rows):
        for column in range(COLUMNS):
            pair = "".join(rng.choices(CHARACTERS + " ", k=2)) if rng.random() < 0.5 else str(rng.randint(0, 99))
            picture.write(column, row, pair)
    return picture


def random_picture(rng: Random, test: bool = False) -> Picture:
    """A picture of each kind in turn; of drawn texts, those that are held out or those that are not."""
    kind = rng.random()
    if kind < 0.3:
        return random_text(rng)
    if kind < 0.6:
        return draw_text(make_task(rng, rng.choice(DOMAINS), test).problem.text)
    return SCENES[rng.choice(list(SCENES))](rng, rng.choice(DIFFICULTIES)).picture


def batch(pictures: list[Picture], words: Words) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Pixels and grids of pictures, what the tower is to say of their cells [cells, width], and the cells' labels."""
    made = [patches(picture) for picture in pictures]
    labels = [
        picture.labels.get((column, row), "")
        for picture, (_, (_, high, wide)) in zip(pictures, made, strict=True)
        for row in range(high // MERGE)
        for column in range(wide // MERGE)
    ]
    targets = torch.stack([words(label) for label in labels])
    return torch.cat([pixels for pixels, _ in made]), torch.tensor([grid for _, grid in made]), targets, labels


def evaluate(tower: Any, words: Words, pictures: list[Picture]) -> float:
    """Share of the cells that are not empty whose nearest label, of all labels there, is the right one."""
    with torch.no_grad():
        pixels, grids, _, labels = batch(pictures, words)
        outputs = tower(pixels, grid_thw=grids).pooler_output
    known = sorted({label.strip() if label.strip().isdecimal() else label for label in labels})
    vectors = torch.stack([words(label) for label in known])
    exact = "donot_use_mm_for_euclid_dist"
    nearest = torch.cdist(outputs.float(), vectors, compute_mode=exact).argmin(1).tolist()
    judged = [
        known[place].strip() == label.strip() for place, label in zip(nearest, labels, strict=True) if label.strip()
    ]
    return sum(judged) / len(judged)


def pretrain(folder: Path, steps: int) -> None:
    """Train the tower, report what it reads of pictures that it was not trained on, and write the base."""
    tokenizer = vision_tokenizer()
    model = vision_model(tokenizer)
    tower: Any = model.model.visual
    table = model.get_parameter("model.language_model.embed_tokens.weight").detach()
    words, scale = Words(tokenizer, table), table[:TEXT_ROWS].square().mean()
    optimizer = torch.optim.AdamW(tower.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    warm_up = max(1, steps // 30)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm_up, 0.02 + 0.98 * (1 + math.cos(math.pi * i / steps)) / 2)
    )
    rng, started = Random(f"nano vision {SEED}"), time.monotonic()
    for step in range(steps):
        pixels, grids, targets, labels = batch([random_picture(rng) for _ in range(IMAGES)], words)
        outputs = tower(pixels, grid_thw=grids).pooler_output
        # Empty cells are many and easy.
        weight = torch.tensor([1.0 if label.strip() else 0.2 for label in labels])
        loss = ((outputs - targets).square().mean(1) * weight).sum() / weight.sum() / scale
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 50 == 49 or step == steps - 1:
            print(f"step {step + 1}: loss {loss.item():.4f}, {time.monotonic() - started:.0f} s", flush=True)
    # In the precision that is stored. The frequencies of positions are computed, and not stored.
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(weights.bfloat16())
    rng = Random("nano vision, held out")
    texts = [draw_text(make_task(rng, rng.choice(DOMAINS), True).problem.text) for _ in range(40)]
    print(f"drawn text: {evaluate(tower, words, texts):.3f} of cells read")
    for kind, make in SCENES.items():
        scenes = [make(rng, rng.choice(DIFFICULTIES)).picture for _ in range(40)]
        print(f"{kind}: {evaluate(tower, words, scenes):.3f} of cells read")
    write_base(folder, model, tokenizer)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    pretrain(arguments.folder, arguments.steps)


if __name__ == "__main__":
    main()
