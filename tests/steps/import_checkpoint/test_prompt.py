"""System prompts and examples of one's own in a chat template, and templates for checkpoints that have none."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli.main import main
from flows.topology import STAGES
from infra.stages.contract import StageContext
from infra.store.sources import bring
from steps.chat import Chat
from steps.checkpoint_prompt import read_template, write_prompt
from steps.checkpoint_refused import CheckpointRefused
from steps.configs.import_checkpoint import ImportConfig
from steps.problem import Example, Problem
from steps.recipe import load_recipe
from steps.stages.import_checkpoint import run

NANO = Path("steps/nano_world/checkpoint")
SYSTEM = 'Put the answer in \\boxed{}. Say "so", {{ not more }} {% than %} that: é 😀'
BOX = "Put the answer into a box."
SHOT = {"prompt": "1 + 1?", "response": "So it is\n\\boxed{2}"}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
DROPPED = CHATML.replace("messages %}", "messages if m.role != 'system' %}")
OVERWRITES = CHATML.replace("{{ m.content }}", "{{ m.content if loop.last else 'dropped' }}")


def written(folder: Path, template: str | None = None, **prompt: Any) -> Chat:
    """The chat of the nano checkpoint with another template and these prompts."""
    shutil.copytree(NANO, folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    write_prompt(folder, ImportConfig.model_validate({"checkpoint": str(NANO), **prompt}), lambda text: None)
    return Chat(folder)


def text(chat: Chat, problem: Problem | str) -> str:
    return str(chat.tokenizer.decode(chat.prompt(problem)))


def test_a_system_prompt_and_examples_stand_before_every_prompt(tmp_path: Path) -> None:
    chat = written(tmp_path / "a", CHATML, system_prompt=SYSTEM, few_shot=[SHOT])
    before = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n"
    after = f"<|im_start|>assistant\n{SHOT['response']}<|im_end|>\n<|im_start|>user\n2 + 3?<|im_end|>\n"
    assert chat._rendered([{"role": "user", "content": "2 + 3?"}]) == before + after + "<|im_start|>assistant\n"
    own = Problem(id="a", system="Be brief.", prompt="2 + 3?", answer="5", verifier="math")
    assert text(chat, own).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?")
    conversation = chat.conversation(Example(problem_id="a", prompt="2 + 3?", response="5"))
    assert list(conversation.tokens) == [*chat.prompt("2 + 3?"), *chat.encode("5"), chat.end_token]


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPPED], ids=["refuses a system turn", "drops a system turn"])
def test_a_template_without_system_turns_has_the_system_prompt_in_the_first_turn(tmp_path: Path, template: str) -> None:
    chat = written(tmp_path / "a", template, system_prompt="Box it.", few_shot=[SHOT])
    assert text(chat, "2 + 3?").startswith("<|im_start|>user\nBox it.\n\n1 + 1?<|im_end|>")
    assert text(chat, "2 + 3?").count("Box it.") == 1


def test_a_template_that_leaves_the_prompt_out_is_refused_by_its_key(tmp_path: Path) -> None:
    for name, prompt in (("few_shot", {"few_shot": [SHOT]}), ("system_prompt", {"system_prompt": "Box."})):
        template = OVERWRITES if name == "few_shot" else "{{ messages[-1].content[-9:] }}"
        with pytest.raises(CheckpointRefused, match=rf"leaves out or changes .*import_checkpoint.{name}"):
            written(tmp_path / name, template, **prompt)


def test_files_that_are_no_templates_are_refused_by_name(tmp_path: Path) -> None:
    for name, content, reason in (
        ("a", b"Hello.", "a chat template .* reads `messages`"),
        ("b", b"\xff", "not text in UTF-8"),
        ("c", b"x" * 1_000_001, "longer than 1,000,000 bytes"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointRefused, match=f"{tmp_path}/{name}: {reason}"):
            read_template(tmp_path / name)


def test_a_checkpoint_without_a_template_is_imported_with_one_and_the_date_in_it_is_fixed(tmp_path: Path) -> None:
    bare = shutil.copytree(NANO, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    (bare / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": None}))
    (tmp_path / "mine.jinja").write_text("{{ strftime_now('%Y') }} " + CHATML)
    own = {"checkpoint": str(bare), "chat_template": str(tmp_path / "mine.jinja"), "system_prompt": BOX}
    recipe = load_recipe(Path("configs/smoke.yaml"))
    recipe = recipe.model_copy(update={"import_checkpoint": ImportConfig.model_validate(own)})
    resolved = STAGES["import"].sources(recipe, tmp_path / "digests.json")
    assert "chat_template" not in STAGES["import"].key_settings(recipe)["own"]
    assert STAGES["import"].key_settings(recipe)["own"]["system_prompt"] == BOX
    brought = {key: bring(one, tmp_path / key) for key, one in resolved.items()}
    context = StageContext(0, {}, tmp_path / "out", tmp_path / "checkpoints", lambda metrics: None, brought)
    output = run(context, STAGES["import"].settings(recipe))
    chat = Chat(output.outputs["model"][1])
    assert text(chat, "2 + 3?").startswith("2024 <|im_start|>system\nPut the answer into a box.<|im_end|>")
    assert output.metrics["before_each_prompt"], "what the template adds is in the record"


def test_the_check_of_data_counts_the_prompt_that_the_recipe_adds(tmp_path: Path) -> None:
    lengths = []
    for settings in ([], ["--set", "import_checkpoint.system_prompt=Put the answer into a box."]):
        result = CliRunner().invoke(main, ["data", "check", "configs/smoke.yaml", "--json", *settings])
        lengths.append(json.loads(result.stdout)["roles"]["test"]["prompts"]["longest"])
    assert lengths[1] > lengths[0] + 5
