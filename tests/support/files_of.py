"""The project's own files, as somebody who clones it has them."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def files_of_the_project(folder: Path) -> None:
    """Copies what git keeps of the project, as it is now, into an empty folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
