"""Plays hostile repositories (tests/hostile) against python-tuf's client, and prints each step that it sees in another way.

A step is accepted if both repositories can be refreshed, and every target of the Director is on the Image repository with
the same length and hashes. Steps that need a server that misbehaves, or a clock, are for other clients.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from tuf.api import exceptions
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

SCHEME = "files:"


class FileFetcher(FetcherInterface):
    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(url.removeprefix(SCHEME)))
        if not path.is_file():
            raise exceptions.DownloadHTTPError(f"there is no {path}", 404)
        return iter([path.read_bytes()])


def updater(attack: Path, step: str, side: str, trusted: str, state: Path) -> Updater:
    metadata_dir = state / side
    metadata_dir.mkdir(exist_ok=True)
    base = f"{SCHEME}{attack / step / side}"
    root = (attack / "trusted" / f"{trusted}-root.json").read_bytes()
    return Updater(str(metadata_dir), base, str(state), f"{base}/targets", fetcher=FileFetcher(), bootstrap=root)


def play(attack: Path, step: str, state: Path) -> str | None:
    """Returns why the step is refused."""
    try:
        director = updater(attack, step, "director", "director", state)
        director.refresh()
        image = updater(attack, step, "repo", "image", state)
        image.refresh()
        for path, wanted in director._trusted_set.targets.targets.items():
            found = image.get_targetinfo(path)
            if found is None or (found.length, found.hashes) != (wanted.length, wanted.hashes):
                return f"{path} differs"
            image.download_target(found, str(state / "target"))
    except (exceptions.RepositoryError, exceptions.DownloadError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    logging.disable(logging.CRITICAL)
    attacks, differences = 0, []
    for attack in sorted(folder.iterdir()):
        steps = json.loads((attack / "attack.json").read_text())["steps"]
        if any("serve" in step or "clock" in step for step in steps):
            continue
        attacks += 1
        with tempfile.TemporaryDirectory() as state:
            for step in steps:
                fault = play(attack, step["dir"], Path(state))
                if ("accept" if fault is None else "refuse") != step["expect"]:
                    differences.append(f"{attack.name}, step {step['dir']}: {step['expect']} was expected: {fault}")
                    break
    print(json.dumps({"attacks": attacks, "differences": differences}))


if __name__ == "__main__":
    main()
