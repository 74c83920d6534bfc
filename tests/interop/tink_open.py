"""Opens a sealed image with the `tink` package: SEALED in, OUT out, one line of JSON about OUT."""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

from tink_keyset import SEGMENT_BYTES, streaming_aead_for

CHUNK = 1 << 20


def open_image(alg: str, data_key: bytes, sealed: Path, out: Path) -> dict[str, object]:
    aead = streaming_aead_for(alg, data_key)
    digest, length = hashlib.sha256(), 0
    partial = out.with_name(out.name + ".partial")
    try:
        with sealed.open("rb") as source, partial.open("wb") as target:
            with aead.new_decrypting_stream(source, b"") as plaintext:
                while chunk := plaintext.read(CHUNK):
                    target.write(chunk)
                    digest.update(chunk)
                    length += len(chunk)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return {"length": length, "sha256": digest.hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alg", required=True, choices=SEGMENT_BYTES)
    parser.add_argument("--key-hex", required=True, type=bytes.fromhex)
    parser.add_argument("sealed", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    try:
        print(json.dumps(open_image(args.alg, args.key_hex, args.sealed, args.out)))
    except Exception as error:
        sys.exit(f"error: tink does not open {args.sealed}: {error}")


if __name__ == "__main__":
    main()
