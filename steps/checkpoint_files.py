"""Which files make up a checkpoint in the Hugging Face format, by their names. Imports no torch: a plan asks."""

import fnmatch

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"), ("vocab.txt",))
PATTERNS = (
    "config.json",
    "generation_config.json",
    INDEX,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/*.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "LICENSE*",
    "NOTICE*",
    *(name for names in TOKENIZERS for name in names),
)


def belongs(path: str) -> bool:
    """Whether a path below a checkpoint's folder can be part of the checkpoint."""
    return (path.endswith(".safetensors") and "/" not in path) or any(fnmatch.fnmatch(path, p) for p in PATTERNS)
