"""The stage of the reward models (§2.3.5). It makes no policy, and so has no evaluation but its spot check.

longhaul run --config RECIPE --only reward_models
"""

from collections.abc import Callable, Iterator, Sequence

from pydantic import BaseModel

from infra.lineage.sample_row import Role, SampleRow
from infra.stages.contract import StageContext, StageOutput
from infra.training.ranks import open_trainer
from steps.chat import Chat
from steps.configs.reward_models import RewardModelsConfig
from steps.gates.gates import Gates
from steps.problem import load_problems, save_rows
from steps.reward_models import Checked, check, label_answers, train_classic, train_cot, written_judgement
from steps.rewards.labelled import Labelled, labelled_table
from steps.rewards.load import open_reward_model
from steps.samples import keep_samples
from steps.stages.settings import TrainSettings
from steps.stages.training import workbench


class LabelledRow(BaseModel):
    """A labelled answer as it is kept."""

    problem_id: str
    reference: str
    answer: str
    form: str
    right: bool
    classic_rm: bool | None = None
    """Verdict in the spot check."""
    cot_rm: bool | None = None


def run(context: StageContext, settings: TrainSettings[RewardModelsConfig]) -> StageOutput:
    """Outputs `classic_rm`, `cot_rm`, the labelled answers (`train.jsonl`, `spot_check.jsonl`), and the samples: what
    each of the two was trained on.
    """
    problems = load_problems(context.inputs["prompts"] / "problems.jsonl")
    folders = {name: context.folder / name for name in ("classic_rm", "cot_rm")}
    with workbench(context, settings) as bench:
        answers = label_answers(bench, problems, settings.own)
        with Gates(context, settings.gates) as gates:
            gates.table("labelled answers", labelled_table([*answers.train, *answers.spot_check]))
        trainer = open_trainer(bench.model, settings.trainer, context.seed, head="value")
        train_classic(bench, trainer, answers, settings.own, folders["classic_rm"])
        cot = train_cot(bench, answers, settings.own, folders["cot_rm"])
    trainer.close()
    model = open_reward_model(folders["classic_rm"], settings.engine)
    try:
        classic = check(model, "classic_rm", answers.spot_check)
    finally:
        model.close()
    labelled = context.folder / "labelled"
    save_rows(labelled / "train.jsonl", [_row(one) for one in answers.train])
    save_rows(labelled / "spot_check.jsonl", _checked_rows(answers.spot_check, classic, cot))
    metrics = {
        "labelled": len(answers.train) + len(answers.spot_check),
        "trained_on": len(answers.train),
        "right_share": sum(one.right for one in answers.train) / len(answers.train),
        "spot_checks": {"classic_rm": classic.result.model_dump(), "cot_rm": cot.result.model_dump()},
    }
    outputs = {name: ("model", folder) for name, folder in folders.items()} | {
        "labelled": ("dataset", labelled),
        "samples": keep_samples(context.folder, _sample_rows(bench.chat, answers.train, settings.own)),
    }
    headline = f"spot checks: classic {classic.result.accuracy:.1%}, chain of thought {cot.result.accuracy:.1%}"
    return StageOutput(outputs, metrics, headline=headline)


def _row(one: Labelled) -> LabelledRow:
    return LabelledRow(
        problem_id=one.problem.id, reference=one.problem.answer, answer=one.answer, form=one.form, right=one.right
    )


def _checked_rows(labelled: list[Labelled], classic: Checked, cot: Checked) -> list[LabelledRow]:
    return [
        _row(one).model_copy(update={"classic_rm": said_classic, "cot_rm": said_cot})
        for one, said_classic, said_cot in zip(labelled, classic.verdicts, cot.verdicts, strict=True)
    ]


def _sample_rows(chat: Chat, answers: Sequence[Labelled], config: RewardModelsConfig) -> Iterator[SampleRow]:
    """What the classic model was trained on, with the label as reward, and then what the other learned to write."""
    kinds: list[tuple[Role, int, Callable[[Labelled], str]]] = [
        ("labelled", config.classic.phase.epochs, lambda one: one.answer),
        ("judgement", config.cot.phase.epochs, written_judgement),
    ]
    for role, times_trained, text in kinds:
        for one in answers:
            yield SampleRow(
                problem_id=one.problem.id,
                prompt_digest=one.problem.digest,
                prompt=one.problem.text,
                response=text(one),
                tokens=len(chat.encode(text(one))),
                role=role,
                outcome="trained",
                times_trained=times_trained,
                reward=float(one.right),
                source=one.problem.source,
                licence=one.problem.licence,
            )
