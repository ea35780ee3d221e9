"""Which interpreters and compilers run programs: other versions of them may judge a program otherwise."""

import platform
import shutil
import subprocess
from functools import cache

from infra.sandbox.images import LANGUAGES, image

SECONDS = 10


@cache
def program_versions() -> dict[str, str]:
    """Versions of the commands of this machine that the sandbox's images are made of; of one that is not installed,
    nothing. The running Python is the base of every image."""
    languages = sorted(folder.name for folder in LANGUAGES.iterdir() if (folder / "image.yaml").is_file())
    commands = sorted({command for language in languages for command in image(language).commands})
    versions = {f"programs/{command}": _version(command) for command in commands}
    return {"programs/python": platform.python_version()} | {name: said for name, said in versions.items() if said}


def _version(command: str) -> str | None:
    path = shutil.which(command)
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.partition("\n")[0].strip() or None
