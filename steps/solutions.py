r"""SFT examples from problems' own solutions, for a recipe that names none (§2.5.2 leaves open where its come from).

Mathematics counts by what stands in `\boxed{}`: a solution without a box gets one, with the reference answer, as its
last line.
"""

from collections.abc import Sequence

from steps.problem import Example, Problem
from steps.rewards.score import boxed_answer


def solved_examples(problems: Sequence[Problem]) -> list[Example]:
    """An example of each problem that has a solution, in their order."""
    return [
        Example(
            problem_id=problem.id,
            system=problem.system,
            prompt=problem.prompt,
            response=_response(problem, problem.solution),
            kind="reasoning",
            source=f"solution of {problem.source}",
            licence=problem.licence,
        )
        for problem in problems
        if problem.solution is not None and problem.solution.strip()
    ]


def _response(problem: Problem, solution: str) -> str:
    if problem.verifier != "math" or boxed_answer(solution) is not None:
        return solution
    return f"{solution.rstrip()}\n\\boxed{{{problem.answer}}}"
