"""Walks a repository with python-tuf's client, from a first root, downloads one target and prints what it saw.

The metadata cache is OUT/metadata: a second run with the same --out continues from it, as a client in a car does.
"""

import argparse
import copy
import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import requests
from tuf.api import exceptions
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

ROLES = ("root", "timestamp", "snapshot", "targets")


class TokenFetcher(FetcherInterface):
    """Sends a read token; python-tuf's own fetcher has no way to."""

    def __init__(self, token: str) -> None:
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def _fetch(self, url: str) -> Iterator[bytes]:
        response = self.session.get(url, stream=True, timeout=30)
        if response.status_code >= 400:
            response.close()
            raise exceptions.DownloadHTTPError(f"HTTP status {response.status_code} for {url}", response.status_code)
        return response.iter_content(1 << 20)


def hash_before_folder(target: TargetFile) -> TargetFile:
    """The other published name, <sha256>.<dir>/<file>, which tough asks for."""
    renamed = copy.copy(target)
    renamed.path = f"{target.hashes['sha256']}.{target.path}"
    return renamed


def download(args: argparse.Namespace) -> dict[str, object]:
    metadata_dir = args.out / "metadata"
    metadata_dir.mkdir(parents=True, exist_ok=True)
    other_name = args.quirk == "hash-before-folder"
    updater = Updater(
        metadata_dir=str(metadata_dir),
        metadata_base_url=args.repo_url,
        target_base_url=f"{args.repo_url}/targets",
        fetcher=TokenFetcher(args.token) if args.token else None,
        config=UpdaterConfig(prefix_targets_with_hash=not other_name),
        bootstrap=args.root.read_bytes(),
    )
    updater.refresh()
    target = updater.get_targetinfo(args.target)
    if target is None:
        raise LookupError(f"no target {args.target}")
    path = args.out / Path(args.target).name
    updater.download_target(hash_before_folder(target) if other_name else target, str(path))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "versions": {role: version_of(metadata_dir / f"{role}.json") for role in ROLES},
        "roles_loaded": sorted(file.stem for file in metadata_dir.glob("*.json")),
        "target": args.target,
        "path": str(path),
        "length": path.stat().st_size,
        "sha256": sha256,
        "signed_length": target.length,
        "signed_hashes": target.hashes,
        "custom": target.custom,
    }


def version_of(path: Path) -> int:
    return json.loads(path.read_text())["signed"]["version"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo-url", required=True, help="such as http://127.0.0.1:8080/repo")
    parser.add_argument("--root", required=True, type=Path, help="the root to start from, such as 1.root.json")
    parser.add_argument("--target", required=True, help="such as gw/4.2.0/gateway.bin")
    parser.add_argument("--out", required=True, type=Path, help="folder for the target and the metadata cache")
    parser.add_argument("--token", help="read token")
    parser.add_argument("--quirk", choices=["hash-before-folder"], help="ask for the target by its other name")
    parser.add_argument("--debug", action="store_true", help="python-tuf's log on stderr")
    args = parser.parse_args()
    args.repo_url = args.repo_url.rstrip("/")
    if args.debug:
        logging.basicConfig(level=logging.DEBUG)
    try:
        print(json.dumps(download(args)))
    except Exception as error:
        sys.exit(f"error: python-tuf does not download {args.target}: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
