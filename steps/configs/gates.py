"""Which suites the stages' data gates use, and which tables, columns and parameters a suite may name.

The suites that come with Longhaul stand in steps/suites (configs/gates leads there), one file for each stage, by its
name. A folder of one's own holds files of the same names: each table that such a file names has the rules that stand
there, and a table that it does not name keeps those of Longhaul.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from infra.gates.errors import SuiteRefused
from infra.gates.suites import SHARED, Kind, Suite, Table, Tables, check_names, check_rules, load_shared, load_suite

SHIPPED = Path(__file__).resolve().parent.parent / "suites"
"""The suites that come with Longhaul."""

_ORIGIN = ("source", "licence", "digest")
_PROBLEM_COLUMNS = frozenset(
    ("id", "text", "verifier", "difficulty", "domain", "discipline", "answer", "tests", "images", *_ORIGIN)
)
_EXAMPLE_COLUMNS = frozenset(("id", "prompt", "response", "kind", "tokens", "images", *_ORIGIN))

_TO_ANSWER: Mapping[str, Kind] = {"math_answers": "parser", "program_tests": "parser", "data_folder": "folder"}
_HELD_OUT: Mapping[str, Kind] = {"held_out_digests": "digests", "held_out_texts": "texts"}
_APART: Mapping[str, Kind] = {**_TO_ANSWER, **_HELD_OUT, "held_out_images": "images"}

_TEST = Table(_PROBLEM_COLUMNS, _TO_ANSWER)
_PROBLEMS = Table(_PROBLEM_COLUMNS, _APART)
_CURATED = Table(_PROBLEM_COLUMNS, {**_APART, "max_domain_share": "number"})
_EXAMPLES = Table(_EXAMPLE_COLUMNS, {**_HELD_OUT, "max_tokens": "number"})
_TRAINED = Table(frozenset(("id", "prompt", "text", *_ORIGIN)), _HELD_OUT)
_PAIRS = Table(frozenset(("id", "chosen", "rejected")), {})
_LABELLED = Table(frozenset(("id", "reference", "answer", "form", "right")), {})
_LEDGER = Table(frozenset(("id", "problem_id", "started", "ended", "outcome")), {})
_PROMPTS: Tables = {"test problems": _TEST, "RL prompts": _PROBLEMS}

READ: dict[str, Tables] = {
    "evaluate": {"test problems": _TEST, "training rows": _TRAINED},
    "vanilla_sft": {"test problems": _TEST, "SFT examples": _EXAMPLES, "problems to expand on": _PROBLEMS},
    "curation": {"test problems": _TEST, "train problems": _PROBLEMS},
    "long_cot_sft": {"test problems": _TEST, "long paths": _EXAMPLES, "RL prompts": _PROBLEMS},
    "long_cot_paths": {"test problems": _TEST, "train problems": _PROBLEMS, "RL prompts": _PROBLEMS},
    "reward_models": _PROMPTS,
    "rl": _PROMPTS,
    "long2short/shortest": _PROMPTS,
    "long2short/dpo": _PROMPTS,
    "long2short/rl": _PROMPTS,
}
"""The tables that each stage reads, by the names of their gates. They are checked before the stage's body runs, and
again by themselves where the rules change."""

MADE: dict[str, Tables] = {
    "vanilla_sft": {"expanded examples": _EXAMPLES},
    "curation": {"curated prompts": _CURATED},
    "long_cot_sft": {"chosen paths": _EXAMPLES},
    "reward_models": {"labelled answers": _LABELLED},
    "rl": {"ledger": _LEDGER},
    "long2short/dpo": {"preference pairs": _PAIRS},
    "long2short/rl": {"ledger": _LEDGER},
}
"""The tables that stages make. Only the stage itself can check them, so that their rules are in its key."""

TABLES: dict[str, Tables] = {stage: {**READ[stage], **MADE.get(stage, {})} for stage in READ}
"""The tables of each stage, by the names of their gates: what it reads, then what it makes.

Parameters: `math_answers` and `program_tests` are the verifiers' parsers, `data_folder` is where images lie,
`held_out_digests`, `held_out_texts` and `held_out_images` are those of the test problems, `max_tokens` is what the
stage's phase has room for, `max_domain_share` is what curation allows.
"""


@cache
def shipped_suite(stage: str) -> Suite:
    """The suite of a stage that comes with Longhaul."""
    return load_suite(SHIPPED / f"{stage}.yaml", TABLES[stage], _shipped_shared())


@cache
def _shipped_shared() -> dict[str, list[Any]]:
    return load_shared(SHIPPED)


@cache
def every_shipped_rule() -> Suite:
    """The shipped suites of all stages in one: a table has the same rules wherever it is read."""
    return Suite({gate: rules for stage in TABLES for gate, rules in shipped_suite(stage).root.items()})


class GatesConfig(BaseModel):
    """The suites of the data gates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str | None = Field(
        None, description="Folder with suites of yours, as in configs/gates: STAGE.yaml, and shared.yaml to include."
    )
    suites: dict[str, Suite] = Field({}, description="Suites written here, by stage; they go before the folder's.")

    _resolved: dict[str, Suite] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        """Read and check all suites now, so that a bad one is refused before anything runs."""
        own = self._own()
        for stage in TABLES:
            shipped = shipped_suite(stage)
            merged = Suite({**shipped.root, **own.get(stage, Suite({})).root})
            if merged != shipped:
                # The shipped ones are known to be right; to try others takes Great Expectations, which loads slowly.
                check_rules(merged, TABLES[stage], self._source(stage))
            self._resolved[stage] = merged
        return self

    def _source(self, stage: str) -> str:
        if stage in self.suites or self.folder is None:
            return f"gates.suites.{stage}"
        return str(Path(self.folder) / f"{stage}.yaml")

    def _own(self) -> dict[str, Suite]:
        """The suites that are not Longhaul's, as far as they were given."""
        own: dict[str, Suite] = {}
        if self.folder is not None:
            folder = Path(self.folder)
            if not folder.is_dir():
                raise SuiteRefused(f"gates.folder: {folder} is not a folder")
            shared = {**_shipped_shared(), **load_shared(folder)}
            for path in sorted((*folder.rglob("*.yaml"), *folder.rglob("*.yml"))):
                stage = path.relative_to(folder).with_suffix("").as_posix()
                if path == folder / SHARED:
                    continue
                if stage not in TABLES or path.suffix != ".yaml":
                    raise SuiteRefused(
                        f"{path}: no stage has this suite; files are named after stages ({', '.join(TABLES)}), with "
                        f".yaml, and {SHARED} holds what they include"
                    )
                own[stage] = load_suite(path, TABLES[stage], shared)
        for stage, suite in self.suites.items():
            if stage not in TABLES:
                raise SuiteRefused(f"gates.suites: there is no stage {stage!r}; stages: {', '.join(TABLES)}")
            check_names(suite, TABLES[stage], f"gates.suites.{stage}")
            own[stage] = Suite({**own.get(stage, Suite({})).root, **suite.root})
        return own

    def suite(self, stage: str) -> Suite:
        """The suite of a stage: of evaluations, that of all of them."""
        return self._resolved[stage]
