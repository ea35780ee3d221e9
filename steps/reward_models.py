"""Reward models for mathematics (§2.3.5): labelled answers, both models trained on them, and the spot check.

The report trains a classic model, with a value head (84.4 % right in spot checks), and one that reasons before it
judges in JSON (98.5 %). Here the answers come from the policy and from rewriting
reference answers into many forms; the rules label them, so that the models can be compared with what is known. The spot
check's problems are none of those that were trained on.

    longhaul run --only reward_models --config configs/nano.yaml
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from infra.training.ranks import AnyTrainer
from steps.configs.reward_models import RewardModelsConfig
from steps.nano_world.answers import judgement, rewritten
from steps.nano_world.task import boxed
from steps.problem import Problem
from steps.rewards.classic_rm_training import ValueExample, train_classic_rm
from steps.rewards.cot_rm import CotRm, judgement_example, verdict_text
from steps.rewards.labelled import Labelled
from steps.rewards.load import Settings, keep_settings
from steps.rewards.reward_model import Reader, RewardModel
from steps.rewards.score import NoVerdict, boxed_answer
from steps.supervised import train
from steps.workbench import Workbench

REPORTED = {"classic_rm": 0.844, "cot_rm": 0.985}
"""Accuracy in the report's own spot checks."""


@dataclass(frozen=True)
class LabelledAnswers:
    """Labelled answers, by what they are for."""

    train: list[Labelled]
    spot_check: list[Labelled]
    """Of other problems."""


class SpotCheck(BaseModel):
    """How a reward model did on answers that it has not seen."""

    answers: int
    accuracy: float
    """No verdict counts as a wrong one."""
    reported: float
    """The report's figure."""
    no_verdict: int
    right_called_wrong: int
    wrong_called_right: int
    """What a policy would learn to give."""
    forms: dict[str, float]
    """Accuracy by how the answer is written."""
    per_second: float
    """Answers judged in a second."""


@dataclass(frozen=True)
class Checked:
    """A spot check, and the verdict on each answer: None where there is none."""

    result: SpotCheck
    verdicts: list[bool | None] = field(repr=False)


def label_answers(bench: Workbench, problems: Sequence[Problem], config: RewardModelsConfig) -> LabelledAnswers:
    """Final answers to problems of mathematics, each with what the rules say of it.

    Raises ValueError where there are not two problems, one to train on and one to check with.
    """
    suitable = [problem for problem in problems if problem.verifier == "math"]
    rng = bench.random("reward models")
    chosen = rng.sample(suitable, min(config.problems, len(suitable)))
    checked = max(1, round(config.spot_check * len(chosen)))
    if len(chosen) <= checked:
        raise ValueError(f"reward_models: {len(suitable)} problems of mathematics are curated, too few to learn from")
    answers = _sampled(bench, chosen, config)
    for problem in chosen:
        own = answers[problem.id]
        for form, answer in rewritten(rng, problem.answer, config.rewritten):
            own.setdefault(answer, form)
    pairs = [(problem, answer, form) for problem in chosen for answer, form in answers[problem.id].items()]
    scores = bench.scorer.score_many([(problem, boxed(answer)) for problem, answer, _ in pairs])
    labelled = [Labelled(*pair, right=score.right) for pair, score in zip(pairs, scores, strict=True)]
    checked_ids = {problem.id for problem in chosen[:checked]}
    return LabelledAnswers(
        train=[one for one in labelled if one.problem.id not in checked_ids],
        spot_check=[one for one in labelled if one.problem.id in checked_ids],
    )


def _sampled(
    bench: Workbench, problems: Sequence[Problem], config: RewardModelsConfig
) -> defaultdict[str, dict[str, str]]:
    """By problem: the distinct final answers of the policy that can be judged, each with the form "sampled"."""
    sampled: defaultdict[str, dict[str, str]] = defaultdict(dict)
    if config.samples == 0:
        return sampled
    prompts = bench.prompts(problems)
    rows = bench.sample(prompts, config.samples, config.max_response_tokens, 1.0, name="responses to label")
    reader = _reader(bench, config)
    for problem, row in zip(problems, rows, strict=True):
        for completion in row:
            response = bench.chat.text(completion.tokens)
            answer = boxed_answer(response)
            if answer and isinstance(reader.read(problem, response), tuple):
                sampled[problem.id][answer] = "sampled"
    return sampled


def _reader(bench: Workbench, config: RewardModelsConfig) -> Reader:
    room = bench.context - config.cot.max_response_tokens
    return Reader(bench.chat, config.max_answer_tokens, room)


def check(model: RewardModel, name: str, labelled: Sequence[Labelled]) -> Checked:
    """The spot check of one model."""
    started = time.perf_counter()
    judged = model.judge([(one.problem, boxed(one.answer)) for one in labelled])
    seconds = time.perf_counter() - started
    verdicts = [None if isinstance(verdict, NoVerdict) else verdict.right for verdict in judged]
    agree = [verdict is one.right for verdict, one in zip(verdicts, labelled, strict=True)]
    by_form: defaultdict[str, list[bool]] = defaultdict(list)
    for one, agrees in zip(labelled, agree, strict=True):
        by_form[one.form].append(agrees)
    result = SpotCheck(
        answers=len(labelled),
        accuracy=statistics.fmean(agree),
        reported=REPORTED[name],
        no_verdict=verdicts.count(None),
        right_called_wrong=sum(v is False and one.right for v, one in zip(verdicts, labelled, strict=True)),
        wrong_called_right=sum(v is True and not one.right for v, one in zip(verdicts, labelled, strict=True)),
        forms={form: statistics.fmean(agrees) for form, agrees in sorted(by_form.items())},
        per_second=len(labelled) / seconds,
    )
    return Checked(result, verdicts)


def written_judgement(one: Labelled) -> str:
    """What the chain-of-thought reward model learns to write of a labelled answer."""
    return judgement(one.problem.answer, one.answer, one.right) + verdict_text(one.right)


def train_cot(bench: Workbench, answers: LabelledAnswers, config: RewardModelsConfig, folder: Path) -> Checked:
    """Fine-tune the bench's model on written judgements, save it, and check it."""
    reader = _reader(bench, config)
    examples = []
    for one in answers.train:
        prompt = reader.prompt(one.problem, one.answer)
        examples.append(judgement_example(bench.chat, prompt, written_judgement(one)))
    name = "chain-of-thought reward model"
    train(bench.trainer, examples, config.cot.phase, bench.random(name), name, bench.log)
    bench.hand_over()
    checked = check(CotRm(reader, "under training", bench.engine, config.cot), "cot_rm", answers.spot_check)
    bench.resume_training()
    bench.trainer.save(folder)
    keep_settings(folder, Settings(name="cot_rm", max_answer_tokens=config.max_answer_tokens, model=config.cot))
    return checked


def train_classic(
    bench: Workbench, trainer: AnyTrainer, answers: LabelledAnswers, config: RewardModelsConfig, folder: Path
) -> None:
    """Train a value head on the bench's checkpoint and all below it, and save it.

    `trainer` has that head, and is to be closed after the bench: in one process both are of one process group.
    """
    reader = _reader(bench, config)
    examples = [ValueExample(reader.prompt(one.problem, one.answer), one.right) for one in answers.train]
    train_classic_rm(trainer, examples, config.classic.phase, bench.random("classic reward model"), bench.log)
    trainer.save(folder)
    settings = Settings(name="classic_rm", max_answer_tokens=config.max_answer_tokens, model=config.classic)
    keep_settings(folder, settings)
