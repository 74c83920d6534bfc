"""Seals a file with the `tink` package: PLAIN in, OUT out, one line of JSON about both."""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

from tink_keyset import SEGMENT_BYTES, streaming_aead_for

CHUNK = 1 << 20


def seal_image(alg: str, data_key: bytes, plain: Path, out: Path) -> dict[str, object]:
    aead = streaming_aead_for(alg, data_key)
    digest, length = hashlib.sha256(), 0
    partial = out.with_name(out.name + ".partial")
    try:
        # Closing the sealing stream writes the last segment and closes the file.
        with plain.open("rb") as source, aead.new_encrypting_stream(partial.open("wb"), b"") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)
                digest.update(chunk)
                length += len(chunk)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    with out.open("rb") as sealed:
        sealed_sha256 = hashlib.file_digest(sealed, "sha256").hexdigest()
    return {
        "plaintext": {"length": length, "sha256": digest.hexdigest()},
        "sealed": {"length": out.stat().st_size, "sha256": sealed_sha256},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alg", required=True, choices=SEGMENT_BYTES)
    parser.add_argument("--key-hex", required=True, type=bytes.fromhex)
    parser.add_argument("plain", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    try:
        print(json.dumps(seal_image(args.alg, args.key_hex, args.plain, args.out)))
    except Exception as error:
        sys.exit(f"error: tink does not seal {args.plain}: {error}")


if __name__ == "__main__":
    main()
