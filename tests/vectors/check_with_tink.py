"""Checks every file of tests/vectors/sealed/ against the `tink` package: what should open opens, the rest fails."""

import hashlib
import io
import sys
from pathlib import Path

import tink

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "interop"))

from make_vectors import SEGMENT, derive, generate, seal_segments, split  # noqa: E402
from tink_keyset import streaming_aead_for  # noqa: E402

# Tink's C++ reader, which the package wraps, takes a full segment with the last flag for the end and ignores
# what follows. Ours must refuse; the plaintext that Tink returns is then shorter, or the same after garbage.
TINK_STOPS_EARLY = {"last_flag_on_all", "last_flag_on_middle", "trailing_garbage_after_full"}


def read_vector(path: Path) -> tuple[dict[str, str], bytes]:
    head, body = path.read_bytes().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.decode().split("\n"))
    return fields, body


def open_with_tink(fields: dict[str, str], sealed: bytes) -> str:
    """Returns the plaintext's SHA-256, or "refused"."""
    aead = streaming_aead_for(fields["alg"], bytes.fromhex(fields["key"]))
    try:
        with aead.new_decrypting_stream(io.BytesIO(sealed), b"") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except tink.TinkError:
        return "refused"


def reseal(fields: dict[str, str]) -> bytes:
    """Follows a recipe with this folder's own sealer; Tink cannot be told its salt and prefix."""
    key, salt, prefix = (bytes.fromhex(fields[name]) for name in ("key", "salt", "prefix"))
    parts = split(generate(fields["plaintext-seed"], int(fields["plaintext-length"])), SEGMENT[fields["alg"]])
    return b"\x28" + salt + prefix + b"".join(seal_segments(derive(key, salt), prefix, parts))


def check(path: Path) -> str | None:
    fields, sealed = read_vector(path)
    if fields["body"] == "recipe":
        sealed = reseal(fields)
    if hashlib.sha256(sealed).hexdigest() != fields["sealed-sha256"] or len(sealed) != int(fields["sealed-length"]):
        return "the sealed image is not the one that the header describes"
    got = open_with_tink(fields, sealed)
    if path.name in TINK_STOPS_EARLY:
        return "tink refuses it now: take it off TINK_STOPS_EARLY" if got == "refused" else None
    want = fields["plaintext-sha256"] if fields["expect"] == "success" else "refused"
    return None if got == want else f"expected {want}, tink gives {got}"


def main() -> int:
    paths = sorted(p for p in (Path(__file__).resolve().parent / "sealed").iterdir() if p.name != "README.md")
    faults = {path.name: fault for path in paths if (fault := check(path))}
    for name, fault in faults.items():
        print(f"{name}: {fault}", file=sys.stderr)
    print(f"{len(paths)} vectors, {len(faults)} faults, {len(TINK_STOPS_EARLY)} that tink opens and we refuse")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
