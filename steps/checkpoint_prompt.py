"""What every prompt of a model begins with: a system prompt and examples of one's own, as part of its chat template.

The template is the one place in which sampling, training, evaluating and serving build a prompt, here and in any other
program that loads the checkpoint. A conversation that has a system turn of its own has no other.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from infra.files import write_text_atomically
from steps.checkpoint_refused import CheckpointRefused, refusing
from steps.checkpoint_template import render_message
from steps.configs.import_checkpoint import ImportConfig

LONGEST = 1_000_000
"""Bytes of a template's file."""

SYSTEM_TURN = (
    "{% if messages and messages[0]['role'] != 'system' %}"
    "{% set messages = [{'role': 'system', 'content': SYSTEM}] + messages %}{% endif %}"
)
IN_FIRST_TURN = (
    "{% if messages and messages[0]['role'] != 'system' %}{% set messages = [{'role': messages[0]['role'], "
    "'content': SYSTEM + '\\n\\n' + messages[0]['content']}] + messages[1:] %}{% endif %}"
)
"""For templates that take no system turn."""
SHOTS = (
    "{% if messages %}{% set lead = 1 if messages[0]['role'] == 'system' else 0 %}"
    "{% set messages = messages[:lead] + EXAMPLES + messages[lead:] %}{% endif %}"
)


def read_template(path: Path) -> str:
    """The template in a file. Raises CheckpointRefused for any other file."""
    if path.stat().st_size > LONGEST:
        raise CheckpointRefused(f"{path}: longer than {LONGEST:,} bytes: name the file of a chat template (Jinja)")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointRefused(f"{path}: not text in UTF-8 ({error}): name the file of a chat template") from error
    if "messages" not in text:
        raise CheckpointRefused(f"{path}: a chat template (Jinja) reads `messages`, and this file does not")
    return text


def write_template(folder: Path, template: str) -> None:
    """Make this the chat template of the checkpoint in a folder, and the only one."""
    for name in ("tokenizer_config.json", "chat_template.json"):
        path = folder / name
        if path.is_file():
            content = json.loads(path.read_bytes())
            if content.pop("chat_template", None) is not None:
                write_text_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_text_atomically(folder / "chat_template.jinja", template)


def write_prompt(folder: Path, config: ImportConfig, report: Callable[[str], None]) -> None:
    """Write the system prompt and the examples of the configuration into the checkpoint's chat template.

    Raises CheckpointRefused where there is no template, and where it leaves them out.
    """
    if not config.system_prompt and not config.few_shot:
        return
    with refusing("tokenizer.json", "the tokenizer cannot be loaded"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    own = tokenizer.chat_template
    template = own.get("default") if isinstance(own, dict) else own
    if template is None:
        raise CheckpointRefused("chat_template.jinja is missing: name one with import_checkpoint.chat_template")
    if config.system_prompt:
        template = _with_system(template, config.system_prompt, tokenizer.special_tokens_map)
    if config.few_shot:
        turns = [
            {"role": role, "content": text}
            for shot in config.few_shot
            for role, text in (("user", shot.prompt), ("assistant", shot.response))
        ]
        template = SHOTS.replace("EXAMPLES", _literal(turns)) + template
    text = render_message(template, tokenizer.special_tokens_map)
    for shot in config.few_shot:
        if shot.prompt.strip() not in text or shot.response.strip() not in text:
            raise CheckpointRefused(
                f"chat_template.jinja: it leaves out or changes the example {shot.prompt[:60]!r} of "
                "import_checkpoint.few_shot: leave the examples out, or give another template"
            )
    write_template(folder, template)
    named = [name for name in ("system_prompt", "few_shot") if getattr(config, name)]
    report(f"the chat template begins each prompt with import_checkpoint's {' and '.join(named)}")


def _with_system(template: str, system: str, variables: dict[str, Any]) -> str:
    for before in (SYSTEM_TURN, IN_FIRST_TURN):
        whole = before.replace("SYSTEM", _literal(system)) + template
        try:
            if system.strip() in render_message(whole, variables):
                return whole
        except CheckpointRefused:
            continue
    raise CheckpointRefused(
        "chat_template.jinja: it leaves out or changes import_checkpoint.system_prompt: leave the key out, or give "
        "another template"
    )


def _literal(value: Any) -> str:
    """A value as Jinja reads it: JSON, whose characters outside of ASCII need no escapes there."""
    return json.dumps(value, ensure_ascii=False)
