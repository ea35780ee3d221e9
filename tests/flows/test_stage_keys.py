"""Whose keys a module is in: an edit of it changes exactly the keys of these stages.

What follows a stage whose key changed runs again only where the stage made something else than before.
"""

import ast
import re
from pathlib import Path

import pytest

from flows.topology import CHECKS, STAGES
from infra.stages.code_digest import reached_code, reached_modules
from infra.stages.neutral import NEUTRAL, is_neutral
from infra.store.evaluation_stages import evaluated_stage

ROOT = Path(__file__).parents[2]

SHORT_RL = "long2short/rl"
PATHS = "long_cot_paths"
RL = {"rl", SHORT_RL}
TRAINS = {"vanilla_sft", "long_cot_sft", "reward_models", "long2short/shortest", "long2short/dpo", *RL}
SAMPLES_AND_TRAINS = TRAINS - {"long_cot_sft"}
SUPERVISED = {"vanilla_sft", "long_cot_sft", "reward_models", "long2short/shortest"}
SAMPLES_KEPT = TRAINS | {PATHS}
EVALUATES = {"evaluate"}
"""All evaluations: they are one stage."""
READS_DATA_SETS = {"data"} | EVALUATES
"""Evaluations read benchmarks as the data stage reads each of its sources."""
JUDGES = TRAINS | {"curation", PATHS} | EVALUATES
"""The stages that a verifier judges for."""
SAMPLES = JUDGES - {"long_cot_sft"}
"""The stages that generate: of those that judge, all but one."""
ALL = JUDGES | {"data", "import", "long2short/merge"}
NONE: set[str] = set()

TABLE = {
    # The recipe's stages, each in a file of its own.
    "steps/nano_world/congruence.py": {"data"},
    "steps/nano_world/programs.py": {"data"},
    "steps/nano_world/long.py": {"data"} | EVALUATES,
    "steps/nano_world/context.py": EVALUATES,
    "steps/nano_world/answers.py": {"reward_models"},
    "steps/nano_world/drawing.py": {"data"},
    "steps/nano_world/drawn_text.py": {"data"},
    "steps/nano_world/pictures.py": {"data"},
    "steps/nano_world/vision_base.py": NONE,
    "steps/nano_world/pretrain_vision.py": NONE,
    "steps/row_images.py": READS_DATA_SETS,
    "steps/data_formats/pictures.py": READS_DATA_SETS,
    "steps/configs/data.py": {"data"},
    "steps/configs/data_source.py": READS_DATA_SETS,
    "steps/checkpoint.py": {"import", PATHS},
    "steps/import_checkpoint.py": {"import", PATHS},
    "steps/checkpoint_images.py": EVALUATES | {"import", PATHS},
    "steps/image_files.py": {"vanilla_sft", "curation", "long_cot_sft"},
    "steps/checkpoint_prompt.py": {"import", PATHS},
    "steps/checkpoint_context.py": {"import", PATHS},
    "steps/solutions.py": {"data"},
    "steps/data_rows.py": {"data"},
    "steps/data_mixture.py": {"data"},
    "steps/source_rows.py": READS_DATA_SETS,
    "steps/data_files/parquet.py": READS_DATA_SETS,
    "steps/data_formats/mbpp.py": READS_DATA_SETS,
    "steps/sft.py": {"vanilla_sft"},
    "steps/configs/sft.py": {"vanilla_sft"},
    "steps/curation.py": {"curation"},
    "steps/question_form.py": {"curation", PATHS},
    "steps/configs/curation.py": {"curation"},
    "steps/long_cot_paths.py": {PATHS},
    "steps/teacher.py": {PATHS},
    "infra/inference/chat_endpoint.py": {PATHS},
    "steps/behaviours.py": {PATHS, "long_cot_sft"},
    "steps/long_cot.py": {"long_cot_sft"},
    "steps/long_paths.py": {"long_cot_sft"},
    "steps/reward_models.py": {"reward_models"},
    "steps/rl/prompt_sampling.py": RL,
    "steps/rl/objective.py": RL,
    "steps/rl/length_reward.py": RL,
    "steps/rl/replay_buffer.py": RL,
    "steps/rl/checkpoint.py": RL,
    "steps/rl/ledger.py": RL,
    "steps/rl/metrics.py": RL,
    "steps/configs/rl.py": RL,
    "steps/long2short/merge.py": {"long2short/merge"},
    "steps/long2short/shortest.py": {"long2short/shortest"},
    "steps/long2short/dpo.py": {"long2short/dpo"},
    "steps/configs/dpo.py": {"long2short/dpo"},
    "steps/long2short/responses.py": {"long2short/shortest", "long2short/dpo"},
    "steps/evaluation.py": EVALUATES,
    "steps/answer_reading.py": EVALUATES,
    "steps/context_evaluation.py": EVALUATES,
    "steps/context_tasks.py": EVALUATES,
    "steps/configs/evaluation.py": EVALUATES,
    "steps/engine_agreement.py": EVALUATES,
    "steps/benchmark_run.py": EVALUATES,
    "steps/benchmark_rows.py": EVALUATES,
    "steps/benchmark_figures.py": EVALUATES,
    "steps/configs/benchmarks.py": EVALUATES,
    "steps/benchmarks/gsm8k.yaml": NONE,
    "infra/intervals.py": EVALUATES,
    "infra/gates/shared_runs.py": NONE,
    # What several stages share.
    "steps/supervised.py": SUPERVISED,
    "steps/packing.py": TRAINS,
    "steps/bench.py": JUDGES,
    "steps/sampling_bench.py": SAMPLES,
    "steps/training_bench.py": {"long_cot_sft"},
    "steps/workbench.py": SAMPLES_AND_TRAINS,
    "steps/chat.py": JUDGES,
    "steps/token_prompt.py": JUDGES,
    "steps/control_tokens.py": JUDGES,
    "steps/problem.py": JUDGES | {"data"},
    "steps/rewards/math/judge.py": JUDGES,
    "steps/rewards/math/worker.py": JUDGES,
    "steps/rewards/code.py": JUDGES,
    "steps/rewards/function_channel.py": JUDGES,
    "steps/rewards/function_checker.py": JUDGES,
    "steps/rewards/output_rules.py": JUDGES,
    "steps/rewards/scorer.py": JUDGES,
    "steps/rewards/classic_rm.py": {"reward_models", *RL},
    "steps/rewards/case_generation.py": NONE,
    "steps/rewards/custom.py": JUDGES,
    "steps/rewards/custom_call.py": JUDGES,
    "steps/rewards/custom_source.py": NONE,
    "steps/configs/custom_reward.py": NONE,
    "steps/stages/judging.py": JUDGES,
    # What the stages run on.
    "infra/inference/engine.py": SAMPLES,
    "infra/inference/requests.py": SAMPLES,
    "infra/inference/sizes.py": SAMPLES,
    "infra/inference/chunked_prefill.py": SAMPLES,
    "infra/inference/serving.py": NONE,
    "infra/inference/repetition.py": SAMPLES,
    "infra/inference/end_tokens.py": JUDGES | {"import"},
    "infra/inference/engine_overhead.py": SAMPLES,
    "infra/inference/context.py": SAMPLES | {"import"},
    "infra/inference/isolated.py": {"reward_models", *RL},
    "infra/training/interface.py": TRAINS,
    "infra/training/trainer.py": TRAINS,
    "infra/training/attention.py": TRAINS | EVALUATES | {"import", PATHS},
    "infra/training/images.py": TRAINS | EVALUATES | {"import", PATHS},
    "infra/training/sequence.py": TRAINS,
    "infra/vision/architectures.py": JUDGES | {"import"},
    "infra/vision/models.py": TRAINS | EVALUATES | {"import", PATHS},
    "infra/vision/processor.py": JUDGES | {"import"},
    "infra/vision/folders.py": JUDGES,
    "infra/training/out_of_memory.py": TRAINS,
    "infra/training/chunked_head.py": TRAINS | EVALUATES | {"import", PATHS},
    "infra/weights/handover.py": SAMPLES_AND_TRAINS,
    "infra/lineage/sample_files.py": SAMPLES_KEPT,
    "infra/sandbox/local.py": JUDGES,
    "infra/sandbox/box_init.py": JUDGES,
    "infra/sandbox/images/cpp/image.yaml": JUDGES,
    "infra/stages/contract.py": ALL,
    # What changes no result: it says how far work is, keeps it, checks it or shows it.
    "infra/progress/tasks.py": NONE,
    "infra/progress/sinks.py": NONE,
    "infra/progress/logs.py": NONE,
    "infra/tracking/tracker.py": NONE,
    "infra/notify.py": NONE,
    "infra/files.py": NONE,
    "infra/store/s3_client.py": NONE,
    "infra/store/store.py": NONE,
    "infra/store/records.py": NONE,
    "infra/store/hub.py": NONE,
    "infra/store/hub_dataset.py": NONE,
    "infra/stages/runner.py": NONE,
    "infra/gates/expectations.py": NONE,
    "infra/gates/page.py": NONE,
    "steps/gates/gates.py": NONE,
    "steps/gates/tables.py": NONE,
    "steps/report/page.py": NONE,
    "infra/sandbox/service.py": NONE,
    "infra/lineage/index.py": NONE,
    "infra/scheduling/scheduler.py": NONE,
    "flows/chain.py": NONE,
    "flows/checkpoint_checks.py": NONE,
    "flows/cli/run.py": NONE,
}
"""By file, the stages in whose keys it is; `evaluate` stands for every evaluation."""


def stages_with(file: str) -> set[str]:
    """The stages that have a file in their keys."""
    name = file.removesuffix(".py").replace("/", ".") if file.endswith(".py") else file
    results = set()
    for stage, spec in STAGES.items():
        digests = reached_code(spec.module).digests
        # A program that a module reads as text counts as a file, by its path.
        if name in digests or file in digests:
            results.add("evaluate" if evaluated_stage(stage) else stage)
    return results


@pytest.mark.parametrize("file", TABLE)
def test_an_edit_of_a_file_changes_exactly_the_keys_of_these_stages(file: str) -> None:
    assert (ROOT / file).is_file(), "the file has moved"
    assert stages_with(file) == TABLE[file]


def test_whatever_is_in_rl_is_in_the_keys_of_rl_alone() -> None:
    for file in (ROOT / "steps" / "rl").glob("*.py"):
        if file.stem != "__init__":
            assert stages_with(file.relative_to(ROOT).as_posix()) == RL, file.name


def test_a_neutral_module_is_in_no_key_and_is_there() -> None:
    reached = {module for spec in STAGES.values() for module in reached_modules(spec.module)}
    assert not any(is_neutral(module) for module in reached)
    for module in NEUTRAL:
        path = ROOT.joinpath(*module.split("."))
        assert path.is_dir() or path.with_suffix(".py").is_file(), module


def test_the_gates_code_is_digested_by_itself() -> None:
    reached = reached_modules(CHECKS, lambda module: module.startswith("infra.progress"))
    assert {"infra.gates.expectations", "steps.gates.tables", "steps.rewards.math.reference"} <= set(reached)


def test_every_stages_file_says_how_to_run_it_alone() -> None:
    for stage, spec in STAGES.items():
        path = ROOT.joinpath(*spec.module.split(".")).with_suffix(".py")
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        displayed = "evaluate/rl" if spec.module == "steps.stages.evaluate" else stage
        assert re.search(rf"longhaul run .*--only {re.escape(displayed)}\b", text), f"{path.name}: {stage}"
