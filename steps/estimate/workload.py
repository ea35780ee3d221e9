"""What each stage of a recipe has to do: responses to generate, tokens to train on, turns between the two."""

import math
from dataclasses import dataclass

from steps.configs.long_cot_paths import LongCotPathsConfig
from steps.configs.phase import PhaseConfig
from steps.configs.rl import RlConfig
from steps.estimate.figures import Figures
from steps.estimate.rollouts import simulate
from steps.recipe import Recipe


@dataclass(frozen=True)
class Generation:
    """Responses that are generated together, `times` over."""

    requests: float
    prefilled: float
    """Tokens to read before, in all: prompts, once for all responses to each, and the earlier segments of responses."""
    context: float
    """Tokens before a response, on average."""
    mean: float
    longest: float
    times: int = 1
    image_tokens: float = 0.0
    """Of what is read before, the tokens of images, in all; features of an image are computed once."""

    @property
    def tokens(self) -> float:
        """Generated, in all."""
        return self.times * self.requests * self.mean


@dataclass(frozen=True)
class Training:
    """Optimizer steps of a kind."""

    key: str
    """The section of the recipe whose rows these are."""
    steps: int
    tokens: float
    """In one step."""
    length: int
    """Tokens in a row."""
    example: float
    """Mean tokens of an example: several share a row, and each attends to itself alone."""
    pair: bool = False
    """Whether two rows go through one pass at least, as DPO's do."""
    reference: bool = False
    """Whether a forward pass goes before."""
    images: float = 0.0
    """Share of the tokens that are images'. One that stands in several examples is counted with each."""

    @property
    def all_tokens(self) -> float:
        """In all steps."""
        return self.steps * self.tokens


@dataclass(frozen=True)
class StageWork:
    """What a stage does."""

    stage: str
    generations: tuple[Generation, ...] = ()
    trainings: tuple[Training, ...] = ()
    turns: int = 0
    """How often weights go from the trainer to the engine and the GPU back."""

    @property
    def generated(self) -> float:
        """Tokens."""
        return sum(one.tokens for one in self.generations)

    @property
    def trained(self) -> float:
        """Tokens, prompts included, each epoch counted."""
        return sum(one.all_tokens for one in self.trainings)


class Workload:
    """The recipe's stages as work, in order."""

    def __init__(self, recipe: Recipe, figures: Figures) -> None:
        self.recipe = recipe
        self.figures = figures
        self._images = figures.image_share * figures.image_tokens
        """Tokens of images in a prompt, on average over all prompts."""
        self._prompt = figures.prompt_tokens + self._images

    def stages(self) -> list[StageWork]:
        """One for each stage that has an engine or a trainer."""
        stages = [self._import(), self._vanilla_sft(), self._curation()]
        if self.recipe.long_cot_paths is not None and self.recipe.long_cot_paths.teacher.endpoint is None:
            stages.append(self._long_cot_paths(self.recipe.long_cot_paths))
        stages.append(self._long_cot_sft())
        if self.recipe.reward_models is not None:
            stages.append(self._reward_models())
        merged = StageWork("long2short/merge", self._evaluations("long2short/merge", "long"))
        stages += [self._rl("rl", self.recipe.rl), merged]
        stages += [self._shortest(), self._dpo(), self._rl("long2short/rl", self.recipe.long2short.rl)]
        return stages

    def _mean(self, kind: str, longest: float) -> float:
        """A response's mean length, by the model: a base continues to the limit, one after vanilla SFT answers as its
        examples do, one after long-CoT SFT thinks."""
        if kind == "base":
            return longest
        if kind == "short":
            return min(longest, self.figures.sft_tokens)
        return longest * self.figures.response_share

    def _sampled(self, problems: float, samples: int, mean: float, longest: float) -> Generation:
        prompt, images = self._prompt, problems * self._images
        return Generation(problems * samples, problems * prompt, prompt, mean, longest, image_tokens=images)

    def _evaluations(self, stage: str, kind: str) -> tuple[Generation, ...]:
        """Of a stage's model: on the held-out problems, and on tasks in long texts, whose prompts fill their length."""
        evaluation = self.recipe.evaluation.for_stage(stage)
        longest = evaluation.max_response_tokens
        problems = self._sampled(self.figures.test_problems, evaluation.samples, self._mean(kind, longest), longest)
        context = evaluation.context
        if context is None:
            return (problems,)
        longest, tasks = context.max_response_tokens, context.tasks * len(context.kinds)
        prompts = [length - longest for length in context.lengths]
        mean = self._mean(kind, longest)
        return (problems, *(Generation(tasks, tasks * prompt, prompt, mean, longest) for prompt in prompts))

    def _phase(self, key: str, phase: PhaseConfig, examples: float, response: float) -> Training:
        """Whole examples fill a step to within half of one's length."""
        tokens = min(phase.sequence_length, self._prompt + response)
        filled = max(tokens, phase.tokens_per_step - tokens / 2)
        steps = max(1, round(phase.epochs * examples * tokens / filled)) if examples else 0
        per_step = phase.epochs * examples * tokens / steps if steps else 0.0
        return Training(key, steps, per_step, phase.sequence_length, tokens, images=min(1.0, self._images / tokens))

    def _import(self) -> StageWork:
        return StageWork("import", self._evaluations("import", "base"))

    def _vanilla_sft(self) -> StageWork:
        config, figures = self.recipe.vanilla_sft, self.figures
        first, second = config.phases
        problems = min(config.expansion.problems, figures.train_problems)
        longest = config.expansion.max_response_tokens
        # Of the problems, half are taken to have a right answer.
        examples = figures.sft_examples + problems / 2 * min(config.expansion.keep, config.expansion.samples)
        return StageWork(
            "vanilla_sft",
            (
                self._sampled(problems, config.expansion.samples, self._mean("short", longest), longest),
                *self._evaluations("vanilla_sft", "short"),
            ),
            (
                self._phase("vanilla_sft.phases.0", first, figures.sft_examples, figures.sft_tokens),
                self._phase("vanilla_sft.phases.1", second, examples, figures.sft_tokens),
            ),
            turns=2 if problems else 1,
        )

    def _curation(self) -> StageWork:
        config, problems = self.recipe.curation, self.figures.train_problems
        longest = config.max_response_tokens
        answers = self._sampled(problems, config.samples, self._mean("short", longest), longest)
        guesses = self._sampled(problems, config.guesses, config.max_guess_tokens, config.max_guess_tokens)
        seen = problems * self.figures.image_share
        if not seen:
            return StageWork("curation", (answers, guesses))
        mean, prompt = self._mean("short", longest), self.figures.prompt_tokens
        blind = Generation(seen * config.guesses, seen * prompt, prompt, mean, longest)
        return StageWork("curation", (answers, guesses, blind))

    def _long_cot_paths(self, config: LongCotPathsConfig) -> StageWork:
        problems, longest = self._problems(config.problems), config.max_response_tokens
        return StageWork(
            "long_cot_paths", (self._sampled(problems, config.samples, self._mean("long", longest), longest),)
        )

    def _long_cot_sft(self) -> StageWork:
        config, figures = self.recipe.long_cot_sft, self.figures
        paths = min(config.paths, figures.long_cot_paths)
        training = self._phase("long_cot_sft.phase", config.phase, paths, figures.long_cot_tokens)
        return StageWork("long_cot_sft", self._evaluations("long_cot_sft", "long"), (training,), turns=1)

    def _reward_models(self) -> StageWork:
        config = self.recipe.reward_models
        assert config is not None
        problems = min(config.problems, self.figures.train_problems)
        longest = config.max_response_tokens
        labelled = problems * (config.rewritten + config.samples)
        spot = labelled * config.spot_check
        judged = self._prompt + config.max_answer_tokens
        reasons = config.cot.max_response_tokens / 2
        return StageWork(
            "reward_models",
            (
                self._sampled(problems, config.samples, self._mean("long", longest), longest),
                Generation(spot, spot * judged, judged, reasons, config.cot.max_response_tokens),
            ),
            (
                self._phase("reward_models.classic.phase", config.classic.phase, labelled, config.max_answer_tokens),
                self._phase("reward_models.cot.phase", config.cot.phase, labelled, config.max_answer_tokens + reasons),
            ),
            turns=1,
        )

    def _rl(self, stage: str, config: RlConfig) -> StageWork:
        figures, prompt = self.figures, self._prompt
        rolled = simulate(
            config, self._mean("long", config.max_response_tokens), figures.length_spread, self.recipe.seed
        )
        requests = max(1.0, rolled.requests)
        generation = Generation(
            rolled.requests,
            # The prefix cache is emptied with each update: prompts of groups that go on are read again.
            rolled.started * prompt + rolled.prefixes + (rolled.requests - rolled.started * config.responses) * prompt,
            prompt + rolled.prefixes / requests,
            rolled.tokens / requests,
            rolled.longest,
            config.iterations,
            # New weights empty the cache of features: images of groups that continue are computed again, once each.
            image_tokens=config.in_flight * self._images,
        )
        trained = figures.signal_share * (rolled.done * config.responses * prompt + rolled.trained_tokens)
        training = Training(
            stage.replace("/", "."),
            config.iterations * config.updates,
            trained / config.updates,
            config.sequence_length,
            prompt + self._mean("long", config.max_response_tokens),
            reference=True,
            images=self._images / (prompt + self._mean("long", config.max_response_tokens)),
        )
        generations = (generation, *self._evaluations(stage, "long"))
        return StageWork(stage, generations, (training,), turns=config.iterations + 1)

    def _shortest(self) -> StageWork:
        config = self.recipe.long2short.shortest
        longest, problems = config.responses.max_response_tokens, self._problems(config.responses.problems)
        mean = self._mean("long", longest)
        training = self._phase("long2short.shortest.phase", config.phase, problems, mean / 2)
        responses = self._sampled(problems, config.responses.samples, mean, longest)
        stage = "long2short/shortest"
        return StageWork(stage, (responses, *self._evaluations(stage, "long")), (training,), turns=1)

    def _dpo(self) -> StageWork:
        config = self.recipe.long2short.dpo
        longest, problems = config.responses.max_response_tokens, self._problems(config.responses.problems)
        mean = self._mean("long", longest)
        # A pair of each problem: a right response half as long as the mean, and a longer one.
        pair = 2 * self._prompt + 1.5 * mean
        steps = max(1, math.ceil(problems / config.pairs_per_step))
        training = Training(
            "long2short.dpo",
            config.epochs * steps,
            problems / steps * pair,
            config.sequence_length,
            pair / 2,
            pair=True,
            reference=True,
            # Both of a pair have the same images, in the same pass.
            images=self._images / pair,
        )
        responses = self._sampled(problems, config.responses.samples, mean, longest)
        stage = "long2short/dpo"
        return StageWork(stage, (responses, *self._evaluations(stage, "long")), (training,), turns=1)

    def _problems(self, requested: int) -> float:
        return min(requested, self.figures.train_problems)
