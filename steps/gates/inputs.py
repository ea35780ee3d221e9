"""The gates on what each stage reads, before its body runs.

They are no part of the stage: where its outputs are reused and rules changed meanwhile, these check alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from infra.stages.contract import StageContext
from infra.vision.folders import ImageFolders
from steps.benchmark_rows import load_benchmark, source_key
from steps.chat import Chat
from steps.configs.evaluation import EvaluationConfig
from steps.configs.long_cot import LongCotConfig
from steps.configs.sft import SftConfig
from steps.gates.gates import Gates
from steps.gates.tables import TrainingRow, training_rows
from steps.long_paths import load_paths
from steps.problem import Example, Problem, load_examples, load_problems
from steps.stages.settings import Settings


def evaluate(context: StageContext, settings: Settings[EvaluationConfig]) -> None:
    """What models are evaluated on, and what they learned from beside benchmarks."""
    benchmarks = settings.own.benchmarks
    with Gates(context, settings.gates) as gates:
        gates.test_problems()
        if benchmarks:
            problems = {one.name: load_benchmark(context.sources[source_key(one.name)], one) for one in benchmarks}
            gates.training_rows(list(_training_rows(context.inputs)), problems)


def _training_rows(inputs: Mapping[str, Path]) -> Iterator[TrainingRow]:
    files: list[tuple[str, str, str, Callable[[Path], Sequence[Problem | Example]]]] = [
        ("train", "data", "train.jsonl", load_problems),
        ("sft", "data", "sft.jsonl", load_examples),
        ("long_cot", "data", "long_cot.jsonl", load_examples),
        ("vanilla_sft.expanded", "expanded", "sft.jsonl", load_examples),
        ("long_cot_paths", "paths", "long_cot.jsonl", load_examples),
    ]
    for name, source, file, load in files:
        path = inputs[source] / file if source in inputs else None
        for place, row in enumerate(load(path) if path is not None and path.is_file() else [], 1):
            yield from training_rows(name, place, row)


def vanilla_sft(context: StageContext, settings: Settings[SftConfig]) -> None:
    """Examples, and problems to expand on."""
    data = context.inputs["data"]
    room = min(phase.sequence_length for phase in settings.own.phases)
    with Gates(context, settings.gates) as gates:
        gates.test_problems()
        examples = load_examples(data / "sft.jsonl")
        if examples or not settings.own.expansion.problems:  # otherwise all are sampled
            gates.examples("SFT examples", examples, _chat(context), room)
        problems = load_problems(data / "train.jsonl")
        if seen := next((problem for problem in problems if problem.images), None):
            # A model of text alone is not trained first: later stages read these problems.
            _chat(context).read(seen)
        gates.problems("problems to expand on", problems)


def curation(context: StageContext, settings: Settings[object]) -> None:
    """Problems that are offered."""
    with Gates(context, settings.gates) as gates:
        gates.test_problems()
        gates.problems("train problems", load_problems(context.inputs["data"] / "train.jsonl"))


def long_cot_paths(context: StageContext, settings: Settings[object]) -> None:
    """Problems that a teacher is asked about: curated ones, or those of the training set."""
    with Gates(context, settings.gates) as gates:
        gates.test_problems()
        if "prompts" in context.inputs:
            _prompts(context, gates)
        else:
            gates.problems("train problems", load_problems(context.inputs["data"] / "train.jsonl"))


def long_cot_sft(context: StageContext, settings: Settings[LongCotConfig]) -> None:
    """Long reasoning paths, and curated prompts."""
    paths = load_paths(context.inputs)
    with Gates(context, settings.gates) as gates:
        gates.test_problems()
        gates.examples("long paths", paths, _chat(context), settings.own.phase.sequence_length)
        _prompts(context, gates)


def prompts(context: StageContext, settings: Settings[object]) -> None:
    """Curated prompts: what RL, reward models, shortest rejection sampling and DPO sample responses to."""
    with Gates(context, settings.gates) as gates:
        gates.test_problems()
        _prompts(context, gates)


def _chat(context: StageContext) -> Chat:
    return Chat(context.inputs["model"], ImageFolders.among(context.inputs.values()))


def _prompts(context: StageContext, gates: Gates) -> None:
    gates.problems("RL prompts", load_problems(context.inputs["prompts"] / "problems.jsonl"))
