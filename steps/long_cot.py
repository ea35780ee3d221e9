"""Long-CoT SFT (§2.2): a light SFT on a small, verified set of long reasoning paths.

The paths belong to problems that curation retained. Each is verified, and the set is chosen so that it shows planning,
evaluation, reflection and exploration. The report writes its paths by prompt engineering; here they come from a teacher
(steps/long_cot_paths.py), or as a data set (`long_cot.jsonl`) with whatever wrong ones it holds.

    longhaul run --only long_cot_sft --config configs/nano.yaml
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from steps.behaviours import BEHAVIOURS, behaviours
from steps.configs.long_cot import LongCotConfig
from steps.problem import Example, Problem
from steps.rewards.score import Score
from steps.supervised import train
from steps.training_bench import TrainingBench


@dataclass(frozen=True)
class LongCotResult:
    """What the stage reports."""

    candidates: int
    of_curated_problems: int
    verified: int
    chosen: list[Example]
    scores: list[Score]
    """What the verifiers said of each chosen path."""
    behaviours: dict[str, int]
    """How many chosen paths show each behaviour."""


def choose(paths: Sequence[Example], count: int, rng: Random) -> list[int]:
    """The places of at most `count` paths in which the four behaviours are as evenly frequent as the paths allow.

    Greedy: each time a path with the behaviour seen least, of those that a path is left for. Paths that show none come
    last.
    """
    order = rng.sample(range(len(paths)), len(paths))
    displayed = [behaviours(path.response) for path in paths]
    waiting = {name: [index for index in order if name in displayed[index]] for name in BEHAVIOURS}
    seen: Counter[str] = Counter()
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        for indices in waiting.values():
            while indices and indices[-1] in chosen:
                indices.pop()
        left = [name for name, indices in waiting.items() if indices]
        if not left:
            break
        index = waiting[min(left, key=seen.__getitem__)].pop()
        chosen[index] = None
        seen.update(displayed[index])
    silent = [index for index in order if not displayed[index]]
    return [*chosen, *silent][:count]


def long_cot_sft(
    bench: TrainingBench, paths: Sequence[Example], problems: Sequence[Problem], config: LongCotConfig
) -> LongCotResult:
    """Verify, choose and train; the trained model is in the bench's trainer."""
    known = {problem.id: problem for problem in problems}
    own = [path for path in paths if path.problem_id in known]
    scores = bench.scorer.score_many([(known[path.problem_id], path.response) for path in own])
    verified = [(path, score) for path, score in zip(own, scores, strict=True) if score.right]
    if not verified:
        raise ValueError("long_cot: none of the paths belongs to a curated problem and is right")
    places = choose([path for path, _ in verified], config.paths, bench.random("long-CoT paths"))
    chosen, chosen_scores = [verified[place][0] for place in places], [verified[place][1] for place in places]
    tokenised = [bench.chat.conversation(path) for path in chosen]
    train(bench.trainer, tokenised, config.phase, bench.random("long-CoT SFT"), "long-CoT SFT", bench.log)
    counts = Counter[str](name for path in chosen for name in behaviours(path.response))
    return LongCotResult(len(paths), len(own), len(verified), chosen, chosen_scores, dict(counts))
