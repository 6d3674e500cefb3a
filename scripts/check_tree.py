"""Check what stands in the tree: no module without a subject, no machine's path, no package index by name.

    python scripts/check_tree.py

Looks at the files that git knows or would add, and at all of them where there is no git.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMELESS = {"utils", "util", "helpers", "helper", "common", "core", "misc"}

FORBIDDEN = {
    "names a path of one machine": re.compile(
        r"(?<![\w.:/}>-])/(?:home|Users)/(?!(?:me|you|user|local)/)[\w.]+/|(?<![\w.:/}>-])/(?:root|work)/\w"
    ),
    "names a package index; pip's own configuration does that": re.compile(
        r"https?://[\w.:-]*(?:pypi|pythonhosted|devpi|artifactory|jfrog|nexus)[\w.:-]*"
        r"|--(?:extra-)?index-url[= ]\S|--find-links[= ]\S"
    ),
}


def tracked() -> list[Path]:
    """Files of the tree, relative to the current folder."""
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [path for name in done.stdout.split("\0") if name and (path := Path(name)).is_file()]
    return [path for path in Path().rglob("*") if path.is_file() and not any(p.startswith(".") for p in path.parts)]


def complaints(path: Path) -> Iterator[str]:
    """What is wrong with one file."""
    if path.suffix == ".py" and path.stem.strip("_") in NAMELESS:
        yield f"{path}: a module is named by its subject, not {path.stem!r}"
    if path.parent.name in NAMELESS:
        yield f"{path}: a folder is named by its subject, not {path.parent.name!r}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return  # not text
    for number, line in enumerate(lines, 1):
        for problem, pattern in FORBIDDEN.items():
            if found := pattern.search(line):
                yield f"{path}:{number}: {problem}: {found[0]}"


def main() -> int:
    """Print every complaint; the exit code is 1 if there is one."""
    said = [line for path in sorted(tracked()) for line in complaints(path)]
    print("\n".join(said) or "no complaints about names, paths and hosts")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
