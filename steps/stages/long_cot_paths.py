"""The stage of the long reasoning paths: a teacher writes them, the verifiers judge them (§2.2). It makes no model.

longhaul run --config RECIPE --only long_cot_paths
"""

from collections.abc import Iterator
from contextlib import contextmanager

from infra.inference.chat_endpoint import ChatEndpoint
from infra.inference.endpoint_config import EndpointConfig
from infra.inference.spending import Spending
from infra.lineage.sample_row import SampleRow
from infra.progress.tasks import say
from infra.stages.contract import StageContext, StageOutput
from steps.chat import Chat
from steps.configs.import_checkpoint import ImportConfig
from steps.configs.long_cot_paths import LongCotPathsConfig
from steps.import_checkpoint import import_checkpoint
from steps.long_cot_paths import DISTINCT, AnswerFolder, PathsResult, choose_paths, collect_answers, make_queries
from steps.problem import Problem, load_problems, save_rows
from steps.question_form import question_form
from steps.samples import keep_samples
from steps.sampling_bench import open_sampling_bench
from steps.stages.judging import open_scorer
from steps.stages.settings import GenerateSettings
from steps.teacher import EndpointTeacher, EngineTeacher, Teacher

CHECKPOINT, ENDPOINT = "long_cot_paths.teacher.checkpoint", "long_cot_paths.teacher.endpoint"


def run(context: StageContext, settings: GenerateSettings[LongCotPathsConfig]) -> StageOutput:
    """Outputs `paths` (long_cot.jsonl), `answers` (answers.jsonl: each with its prompt), and the samples: all answers.

    The input `model` is the teacher itself, or the model that the paths are for, whose tokenizer counts.
    """
    config = settings.own
    queries = make_queries(_problems(context), config, context.seed)
    answers = AnswerFolder(context.checkpoints / "answers", _name(context, config))
    spending = _spending(config.teacher.endpoint, answers)
    with _open_teacher(context, settings, answers, spending) as teacher:
        done = collect_answers(teacher, queries, answers)
        name = teacher.name
    with open_scorer(context, settings.judging) as scorer:
        result = choose_paths(queries, done, scorer, Chat(context.inputs["model"]), config, name)
    save_rows(context.folder / "paths" / "long_cot.jsonl", result.paths)
    save_rows(context.folder / "answers" / "answers.jsonl", result.rows)
    metrics = {"teacher": name, **result.metrics()}
    if spending is not None:
        # With what was asked in vain.
        metrics["teacher_tokens"] = {"prompts": spending.prompt_tokens, "answers": spending.completion_tokens}
        if spending.cost is not None:
            metrics["cost"] = spending.cost
    outputs = {
        "paths": ("dataset", context.folder / "paths"),
        "answers": ("dataset", context.folder / "answers"),
        "samples": keep_samples(context.folder, _sample_rows(result)),
    }
    return StageOutput(outputs, metrics, headline=f"{len(result.paths)} paths from {len(result.rows)} answers")


def _problems(context: StageContext) -> list[Problem]:
    """Curated ones, where the teacher is the model that curation measured. A teacher from outside is asked about the
    training set, so that it is not asked again for whatever changes in the stages before; questions that curation
    leaves out by their form are not worth an answer."""
    if "prompts" in context.inputs:
        return load_problems(context.inputs["prompts"] / "problems.jsonl")
    problems = load_problems(context.inputs["data"] / "train.jsonl")
    return [problem for problem in problems if question_form(problem.text) is None]


def _name(context: StageContext, config: LongCotPathsConfig) -> str:
    """Whose answers the stage's checkpoints are, for sure: its key names the model and the sampling."""
    endpoint = config.teacher.endpoint
    return config.teacher.kind if endpoint is None else f"{endpoint.model} at {endpoint.url}"


def _spending(endpoint: EndpointConfig | None, answers: AnswerFolder) -> Spending | None:
    return None if endpoint is None else Spending(endpoint, *answers.tokens)


@contextmanager
def _open_teacher(
    context: StageContext,
    settings: GenerateSettings[LongCotPathsConfig],
    answers: AnswerFolder,
    spending: Spending | None,
) -> Iterator[Teacher]:
    config = settings.own
    endpoint = config.teacher.endpoint
    if endpoint is not None:
        yield EndpointTeacher(ChatEndpoint(endpoint, endpoint.read_key(ENDPOINT), spending), config, answers.usable)
        return
    model, name = context.inputs["model"], "the vanilla SFT model"
    if CHECKPOINT in context.sources:
        source = context.sources[CHECKPOINT]
        model, name = context.folder / "teacher", source.address
        # Checked like the checkpoint that training starts from: it may come from anywhere.
        import_checkpoint(source, ImportConfig(checkpoint=source.address), model, say)
    with open_sampling_bench(model, engine=settings.engine, seed=context.seed, log=context.log) as bench:
        yield EngineTeacher(bench, name, config)


def _sample_rows(result: PathsResult) -> Iterator[SampleRow]:
    """All answers; the prompt is what the teacher was asked, and its digest the problem's, by which it is searched."""
    for row, problem, score in zip(result.rows, result.problems, result.scores, strict=True):
        yield SampleRow(
            problem_id=row.problem_id,
            prompt_digest=problem.digest,
            prompt=row.prompt,
            response=row.response,
            tokens=row.tokens or 0,
            role="path",
            outcome="failed" if score is None else "offered" if row.outcome == DISTINCT else "left_out",
            times_trained=0,
            stop=row.outcome,
            reward=score.value if score else None,
            reward_reason=score.reason if score else None,
            verifier=score.verifier if score else None,
            source=problem.source,
            licence=problem.licence,
        )
