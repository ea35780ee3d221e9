"""Curation of the RL prompt set (§2.1): diverse coverage, balanced difficulty, answers that can be evaluated.

In this order: multiple-choice, true/false and proof questions are left out; the SFT model answers each prompt ten times
at a high temperature, and the share of right answers is its difficulty; a prompt whose answer the model guesses without
any chain of thought within N = 8 tries is left out, and so is one with images that it answers without seeing them
within as many; domains are balanced. Each prompt occurs once: the data stage has
dropped the others. Not in the
report, and off by default: prompts that the model nearly always solves can be left out too. Prioritised sampling
rarely draws them in any case, and long-CoT SFT forgets what is easy when it sees only what is hard.

    longhaul run --only curation --config configs/nano.yaml
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from steps.configs.curation import CurationConfig
from steps.problem import Problem
from steps.question_form import FORMS, form_of
from steps.sampling_bench import SamplingBench

GUESS_PREFIX = {"math": "\\boxed{", "code": "```python\n"}
"""What a response is made to begin with, so that the answer stands before any thought."""


def guess(problem: Problem, continuation: str) -> str:
    """What counts of what the model wrote after the prefix: a guessed answer stands in its first line.

    A model that is used to thinking writes its chain of thought into the box, and the answer at the end.
    """
    if problem.verifier == "math":
        continuation = continuation.split("\n")[0]
    return GUESS_PREFIX[problem.verifier] + continuation


def domain_share_limit(problems: Sequence[Problem], max_share: float) -> float:
    """The largest share of a domain that curation leaves: n domains cannot each hold less than 1/n."""
    return max(max_share, 1 / max(1, len({problem.domain for problem in problems})))


@dataclass(frozen=True)
class CurationResult:
    """The RL prompt set and how it came about."""

    problems: list[Problem]
    pass_rates: dict[str, float]
    """By problem id; lower is harder."""
    removed: dict[str, int]
    """How many prompts each rule removed, in the order in which the rules were applied."""
    domains: dict[str, int]
    """Prompts kept per domain."""
    difficulty: dict[str, int]
    """Prompts kept per tenth of pass rate, "0.0" to "0.9"."""


def by_form(
    bench: SamplingBench, problems: Sequence[Problem], config: CurationConfig, removed: Counter[str]
) -> list[Problem]:
    """Prompts left by the rules that need no model."""
    remaining = []
    for problem in problems:
        form = form_of(problem)
        if form is not None:
            removed[form] += 1
        elif len(bench.chat.prompt(problem)) > config.max_prompt_tokens:
            removed["too long"] += 1
        else:
            remaining.append(problem)
    return remaining


def measure_pass_rates(bench: SamplingBench, problems: Sequence[Problem], config: CurationConfig) -> dict[str, float]:
    """Share of right answers among `samples`, by problem id."""
    prompts = bench.prompts(problems)
    answers = bench.sample(prompts, config.samples, config.max_response_tokens, config.temperature, name="pass rates")
    return _share_right(bench, problems, [[bench.chat.text(a.tokens) for a in row] for row in answers])


def guessable(bench: SamplingBench, problems: Sequence[Problem], config: CurationConfig) -> set[str]:
    """Ids of the problems whose answer is right within `guesses` tries without a chain of thought."""
    if config.guesses == 0:
        return set()
    # Nobody but its author knows what the answer to a custom problem looks like.
    problems = [problem for problem in problems if problem.verifier in GUESS_PREFIX]
    prefixes = [bench.chat.skip_thinking + GUESS_PREFIX[problem.verifier] for problem in problems]
    guesses = bench.sample(
        [bench.chat.read(problem) for problem in problems],
        config.guesses,
        config.max_guess_tokens,
        config.temperature,
        name="guesses",
        begun=[bench.chat.encode(prefix) for prefix in prefixes],
    )
    texts = [
        [guess(problem, bench.chat.decode(completion.tokens)) for completion in row]
        for problem, row in zip(problems, guesses, strict=True)
    ]
    return {problem_id for problem_id, share in _share_right(bench, problems, texts).items() if share > 0}


def answered_blind(bench: SamplingBench, problems: Sequence[Problem], config: CurationConfig) -> set[str]:
    """Ids of the problems with images whose answer is right within `guesses` tries by their text alone."""
    seen = [problem for problem in problems if problem.images]
    if not seen or config.guesses == 0:
        return set()
    blind = [problem.model_copy(update={"prompt": problem.text}) for problem in seen]
    prompts = [bench.chat.read(problem) for problem in blind]
    tries = bench.sample(
        prompts, config.guesses, config.max_response_tokens, config.temperature, name="answers without images"
    )
    rates = _share_right(bench, seen, [[bench.chat.text(a.tokens) for a in row] for row in tries])
    return {problem_id for problem_id, share in rates.items() if share > 0}


def _share_right(bench: SamplingBench, problems: Sequence[Problem], texts: Sequence[Sequence[str]]) -> dict[str, float]:
    pairs = [(problem, text) for problem, row in zip(problems, texts, strict=True) for text in row]
    scores = iter(bench.scorer.score_many(pairs))
    return {
        problem.id: sum(next(scores).right for _ in row) / len(row)
        for problem, row in zip(problems, texts, strict=True)
    }


def balance(problems: Sequence[Problem], max_share: float, rng: Random) -> list[Problem]:
    """Drop prompts of domains that are too frequent, until none holds more than `max_share` of the set.

    n domains cannot each hold less than 1/n: with a smaller `max_share` they come to hold 1/n each.
    """
    remaining = list(problems)
    share = max(max_share, 1 / max(1, len({problem.domain for problem in remaining})))
    while remaining and share < 1:
        domain, count = Counter(problem.domain for problem in remaining).most_common(1)[0]
        # The slack is for rounding: 0.7 * 3 / (1 - 0.7) is a little less than 7.
        allowed = int(share * (len(remaining) - count) / (1 - share) + 1e-9)
        if count <= allowed:
            break
        members = [problem for problem in remaining if problem.domain == domain]
        dropped = {problem.id for problem in rng.sample(members, count - allowed)}
        remaining = [problem for problem in remaining if problem.id not in dropped]
    return remaining


def curate(bench: SamplingBench, problems: Sequence[Problem], config: CurationConfig) -> CurationResult:
    """Apply all rules with the model that is in the bench's engine. Raises ValueError if nothing is left."""
    removed = Counter(dict.fromkeys([*FORMS, "too long"], 0))
    remaining = by_form(bench, problems, config, removed)
    rates = measure_pass_rates(bench, remaining, config)
    easy = [problem for problem in remaining if rates[problem.id] > config.max_pass_rate]
    removed["always solved"] = len(easy)
    remaining = [problem for problem in remaining if rates[problem.id] <= config.max_pass_rate]
    guessed = guessable(bench, remaining, config)
    removed["guessed"] = len(guessed)
    remaining = [problem for problem in remaining if problem.id not in guessed]
    if any(problem.images for problem in problems):
        blind = answered_blind(bench, remaining, config)
        removed["answered without its images"] = len(blind)
        remaining = [problem for problem in remaining if problem.id not in blind]
    balanced = balance(remaining, config.max_domain_share, bench.random("balance"))
    removed["balance"] = len(remaining) - len(balanced)
    if not balanced:
        raise ValueError(f"curation left no prompt; removed: {dict(removed)}. Loosen curation.* or offer more problems")
    tenths = Counter(f"{min(int(rates[problem.id] * 10), 9) / 10:.1f}" for problem in balanced)
    return CurationResult(
        problems=balanced,
        pass_rates={problem.id: rates[problem.id] for problem in balanced},
        removed=dict(removed),
        domains=dict(Counter(problem.domain for problem in balanced)),
        difficulty=dict(sorted(tenths.items())),
    )
