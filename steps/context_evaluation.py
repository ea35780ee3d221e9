"""How much of its context a model uses: accuracy by length on RULER's kinds of task, and the effective length.

The tasks depend on the seed and the model's tokenizer alone, so that models with the same tokenizer answer the same
ones. As in RULER, an answer's score is the share of what was asked for that it holds; the effective length is the
largest up to which the accuracy, over all kinds, reaches the threshold. Differing: an answer is read from the box if
there is one, so that a text cannot score by naming everything on the way.
"""

import re
import statistics
from collections.abc import Sequence

from infra.errors import LonghaulError
from infra.progress.tasks import say
from infra.store.evaluation import ContextResult, LengthResult
from steps.configs.evaluation import ContextConfig, ContextKind
from steps.context_tasks import ContextTask, make_task
from steps.nano_world.context import make_nano_task
from steps.nano_world.long import count_tokens
from steps.problem import Problem
from steps.rewards.score import after_thinking, boxed_answer
from steps.sampling_bench import SamplingBench


def share_held(expected: Sequence[str], response: str) -> float:
    """The share of what is expected that stands in the response's box, or, without a box, after its thinking."""
    answer = boxed_answer(response)
    if answer is None:
        answer = after_thinking(response) or ""
    held = [bool(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", answer, re.IGNORECASE)) for one in expected]
    return sum(held) / len(held)


def effective_length(results: Sequence[LengthResult], threshold: float) -> int:
    """The largest length up to which every accuracy reaches the threshold; 0 where the first does not."""
    reached = 0
    for result in results:
        if result.accuracy < threshold:
            break
        reached = result.tokens
    return reached


def context_tasks(bench: SamplingBench, config: ContextConfig, kind: ContextKind, length: int) -> list[ContextTask]:
    """The tasks of a kind whose prompts leave room for the longest response in `length` tokens."""
    rng = bench.random(f"context {kind} {length}")
    frame = len(bench.chat.prompt(_problem("x"))) - len(bench.chat.encode("x"))
    room = length - config.max_response_tokens - frame
    if config.words == "nano_world":
        nano_tasks = [make_nano_task(kind, rng, room) for _ in range(config.tasks)]
        _check_counts(bench, nano_tasks[0].prompt)
        return nano_tasks
    return [make_task(kind, rng, room, lambda text: len(bench.chat.encode(text))) for _ in range(config.tasks)]


def _check_counts(bench: SamplingBench, text: str) -> None:
    """Raises LonghaulError where the model's tokenizer makes other lengths of the nano world's lines than its own."""
    own, nano = len(bench.chat.encode(text)), count_tokens(text)
    if abs(own - nano) > 0.02 * nano:
        raise LonghaulError(
            f"evaluation.context.words is nano_world, and the model's tokenizer makes {own:,} tokens of a text of "
            f"{nano:,}: set it to english, whose texts are measured by the model's tokenizer"
        )


def evaluate_context(bench: SamplingBench, config: ContextConfig) -> ContextResult:
    """Evaluate the weights that are in the bench's engine. Raises PromptTooLong where the tokenizer needs more room."""
    results = []
    for length in config.lengths:
        tasks = [(kind, task) for kind in config.kinds for task in context_tasks(bench, config, kind, length)]
        prompts = bench.prompts([_problem(task.prompt) for _, task in tasks])
        completions = bench.sample(
            prompts, 1, config.max_response_tokens, config.temperature, name=f"contexts of {length:,} tokens"
        )
        scores: dict[str, list[float]] = {kind: [] for kind in config.kinds}
        for (kind, task), (completion,) in zip(tasks, completions, strict=True):
            scores[kind].append(share_held(task.expected, bench.chat.text(completion.tokens)))
        kinds = {kind: statistics.fmean(values) for kind, values in scores.items()}
        accuracy = statistics.fmean(kinds.values())
        results.append(LengthResult(tokens=length, tasks=len(tasks), accuracy=accuracy, kinds=kinds))
        say(f"{length:,} tokens: {accuracy:.1%} of what was asked for")
    return ContextResult(
        lengths=results, threshold=config.threshold, effective_length=effective_length(results, config.threshold)
    )


def _problem(prompt: str) -> Problem:
    return Problem(id="context", prompt=prompt, answer="-", verifier="math", source="tasks in long texts")
