"""Makes a repository with python-tuf's metadata API, and serves it in stages: what a vehicle may come upon next.

The first root goes to FOLDER/root.json and the URL, once it answers, to FOLDER/url. A file is found by its path exactly
as it was sent: whoever does not percent-encode the name of a role or a target gets nothing.
"""

import copy
import datetime
import sys
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import tuf.api.metadata as tuf
from securesystemslib.signer import CryptoSigner

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
LATER = NOW + datetime.timedelta(days=30)
PLAIN, DOCUMENT = "gw/gateway.bin", "docs/réad me? #1, 100%+.txt"
BINNED, PACKED = "images/a&b=c;(final).bin", "packed/;[x] y.bin"
ODD_ROLE = "../team #1?"

ed25519, ecdsa, rsa = CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa


class Repository:
    def __init__(self) -> None:
        kinds = {"root": tuf.Root, "timestamp": tuf.Timestamp, "snapshot": tuf.Snapshot, "targets": tuf.Targets}
        self.roles = {role: kind(expires=LATER) for role, kind in kinds.items()}
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.files: dict[str, bytes] = {}

    def set_keys(self, role: str, *signers: CryptoSigner) -> list[CryptoSigner]:
        """All of them have to sign from now on; returns who had to before."""
        root = self.roles["root"]
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        for signer in signers:
            root.add_key(signer.public_key, role)
        root.roles[role].threshold = len(signers)
        former, self.signers[role] = self.signers.get(role, []), list(signers)
        return former

    def delegate(self, role: tuf.DelegatedRole, signer: CryptoSigner) -> None:
        targets = self.roles["targets"]
        targets.delegations = targets.delegations or tuf.Delegations({}, roles={})
        targets.delegations.roles[role.name] = role
        targets.add_key(signer.public_key, role.name)
        self.roles[role.name], self.signers[role.name] = tuf.Targets(expires=LATER), [signer]

    def delegate_bins(self, delegator: str, bits: int, signer: CryptoSigner) -> None:
        bins = tuf.SuccinctRoles([], 1, bits, delegator)
        self.roles[delegator].delegations = tuf.Delegations({}, succinct_roles=bins)
        self.roles[delegator].add_key(signer.public_key)
        for role in bins.get_roles():
            self.roles[role], self.signers[role] = tuf.Targets(expires=LATER), [signer]

    def add_target(self, role: str, path: str) -> None:
        content = f"content of {path}".encode()
        target = self.roles[role].targets[path] = tuf.TargetFile.from_data(path, content, ["sha256", "sha512"])
        folder, _, name = path.rpartition("/")
        for digest in target.hashes.values():
            self.files[f"targets/{quote(f'{folder}/{digest}.{name}')}"] = content

    def sign(self, role: str, signed: tuf.Signed, former: Sequence[CryptoSigner]) -> tuple[str, bytes]:
        metadata = tuf.Metadata(signed)
        for signer in [*self.signers[role], *former]:
            metadata.sign(signer, append=True)
        version = "" if role == "timestamp" else f"{signed.version}."
        return f"metadata/{version}{quote(role, safe='')}.json", metadata.to_bytes()

    def publish(self, role: str, former: Sequence[CryptoSigner] = ()) -> None:
        """Signs a role and lists it where it has to be listed."""
        signed = self.roles[role]
        path, content = self.sign(role, signed, former)
        self.files[path] = content
        if role == "snapshot":
            self.roles["timestamp"].snapshot_meta = tuf.MetaFile.from_data(signed.version, content, ["sha512"])
        elif role not in ("root", "timestamp"):
            self.roles["snapshot"].meta[f"{role}.json"] = tuf.MetaFile.from_data(signed.version, content, ["sha256"])

    def publish_next(self, role: str, former: Sequence[CryptoSigner] = ()) -> None:
        self.roles[role].version += 1
        self.publish(role, former)

    def altered(self, role: str, former: Sequence[CryptoSigner] = (), **changes: object) -> dict[str, bytes]:
        """The files, with another file for one role."""
        signed = copy.deepcopy(self.roles[role])
        for field, value in changes.items():
            setattr(signed, field, value)
        return dict([*self.files.items(), self.sign(role, signed, former)])


def first() -> Repository:
    repository = Repository()
    for role, make in {"root": ed25519, "timestamp": ecdsa, "snapshot": rsa, "targets": ed25519}.items():
        repository.set_keys(role, make())
    repository.delegate(tuf.DelegatedRole(ODD_ROLE, [], 1, False, paths=["docs/r?ad*[!0-9].txt"]), ecdsa())
    repository.delegate(tuf.DelegatedRole("packed", [], 1, False, paths=["packed/*"]), ed25519())
    repository.delegate_bins("packed", 5, ed25519())
    for number, digits in enumerate(["0123", "4567", "89ab", "cdef"]):
        bin_role = tuf.DelegatedRole(f"bin-{number}", [], 1, True, path_hash_prefixes=list(digits))
        repository.delegate(bin_role, ecdsa())
    binned = repository.roles["targets"].delegations.get_roles_for_target(BINNED)
    packed = repository.roles["packed"].delegations.get_roles_for_target(PACKED)
    for role, path in [("targets", PLAIN), (ODD_ROLE, DOCUMENT), (next(binned)[0], BINNED), (next(packed)[0], PACKED)]:
        repository.add_target(role, path)
    for role in [*(repository.roles.keys() - {"snapshot", "timestamp"}), "snapshot", "timestamp"]:
        repository.publish(role)
    return repository


def rotate(repository: Repository) -> None:
    """Two roots with other keys than the one before; the second has others for timestamp and snapshot, too."""
    repository.publish_next("root", repository.set_keys("root", ecdsa(), rsa()))
    former = repository.set_keys("root", ed25519(), ed25519())
    repository.set_keys("timestamp", ed25519())
    repository.set_keys("snapshot", ecdsa())
    repository.publish_next("root", former)
    for role in ["snapshot", "timestamp", "timestamp"]:
        repository.publish_next(role)


def make_stages() -> dict[str, dict[str, bytes]]:
    repository = first()
    stages = {"first": dict(repository.files)}
    rotate(repository)
    stages["rotated"] = dict(repository.files)
    past, content = NOW - datetime.timedelta(seconds=1), f"content of {PLAIN}".encode()
    for stage, other in {"tampered": content.upper(), "longer": content + b"!"}.items():
        stages[stage] = {path: file.replace(content, other) for path, file in repository.files.items()}
    stages["expired"] = repository.altered("timestamp", version=4, expires=past)
    stages["timestamp-rolled-back"] = repository.altered("timestamp", version=2)
    stages["snapshot-rolled-back"] = repository.altered("timestamp", version=4, snapshot_meta=tuf.MetaFile(1))
    former = repository.set_keys("root", ed25519())
    stages["half-signed-root"] = repository.altered("root", former[:1], version=4)
    return stages


def main() -> None:
    folder, stages = Path(sys.argv[1]), make_stages()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stage, _, path = self.path.removeprefix("/").partition("/")
            file = stages.get(stage, {}).get(path)
            self.send_response(404 if file is None else 200)
            self.send_header("Content-Length", str(len(file or b"")))
            self.end_headers()
            self.wfile.write(file or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    (folder / "root.json").write_bytes(stages["first"]["metadata/1.root.json"])
    (folder / "url").write_text(f"http://127.0.0.1:{server.server_port}\n")
    server.serve_forever()


if __name__ == "__main__":
    main()
