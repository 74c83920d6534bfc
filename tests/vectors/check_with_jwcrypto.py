"""Checks tests/vectors/envelope/ against the `jwcrypto` package: what should open opens, the rest fails."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

from jwcrypto.common import base64url_decode  # noqa: E402
from jwe_open import open_envelope  # noqa: E402

# jwcrypto is more lenient than Motorcade here: it opens these and we refuse.
JWCRYPTO_OPENS = {
    "base64_padded",
    "both_serializations",
    "crit_empty",
    "duplicate_in_protected",
    "duplicate_member",
    "payload_duplicate_k",
    "zip_def",
}


def opened(case: dict[str, str], raw: str) -> dict[str, str] | None:
    try:
        return open_envelope((HERE / "keys" / case["key"]).read_bytes(), raw)
    except Exception:
        return None


def check(path: Path) -> str | None:
    case = json.loads(path.read_text())
    raw = case["raw"] if "raw" in case else json.dumps(case["envelope"])
    got = opened(case, raw)
    if case["expect"] == "success":
        want = {"alg": case["alg"], "k_hex": base64url_decode(case["k"]).hex()}
        return None if got == want else f"expected {want}, jwcrypto gives {got}"
    if (got is not None) != (path.stem in JWCRYPTO_OPENS):
        return f"jwcrypto {'opens' if got else 'refuses'} it, against JWCRYPTO_OPENS"
    return None


def main() -> int:
    paths = sorted((HERE / "envelope").glob("*.json"))
    faults = {path.stem: fault for path in paths if (fault := check(path))}
    for name, fault in faults.items():
        print(f"{name}: {fault}", file=sys.stderr)
    print(f"{len(paths)} vectors, {len(faults)} faults, {len(JWCRYPTO_OPENS)} that jwcrypto opens and we refuse")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
