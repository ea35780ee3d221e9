"""The long reasoning paths that long-CoT SFT reads: those of a teacher, or those of the data."""

from collections.abc import Mapping
from pathlib import Path

from steps.problem import Example, load_examples, load_problems


def load_paths(inputs: Mapping[str, Path]) -> list[Example]:
    """From the stage's inputs. Of a teacher's, those of problems that curation retained: it may have been asked about
    others."""
    if "paths" not in inputs:
        return load_examples(inputs["data"] / "long_cot.jsonl")
    curated = {problem.id for problem in load_problems(inputs["prompts"] / "problems.jsonl")}
    return [path for path in load_examples(inputs["paths"] / "long_cot.jsonl") if path.problem_id in curated]
