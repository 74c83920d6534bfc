"""Opens an envelope with the `jwcrypto` package and prints the data key in it, one line of JSON."""

import argparse
import json
import sys
from pathlib import Path

from jwcrypto import jwe, jwk
from jwcrypto.common import base64url_decode

ALLOWED = ["RSA-OAEP-256", "ECDH-ES+A256KW", "A256GCM"]
DATA_KEY_ALGS = ("AES256_GCM_HKDF_1MB", "AES256_GCM_HKDF_4KB")


def open_envelope(private_pem: bytes, envelope: str) -> dict[str, str]:
    token = jwe.JWE(algs=ALLOWED)
    token.deserialize(envelope, jwk.JWK.from_pem(private_pem))
    data_key = json.loads(token.payload)
    key_bytes = base64url_decode(data_key["k"])
    if data_key["kty"] != "oct" or data_key["alg"] not in DATA_KEY_ALGS or len(key_bytes) != 32:
        raise ValueError("the envelope does not hold a data key")
    return {"alg": data_key["alg"], "k_hex": key_bytes.hex()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", required=True, type=Path, help="private key, PEM")
    parser.add_argument("envelope", type=Path)
    args = parser.parse_args()
    try:
        print(json.dumps(open_envelope(args.key.read_bytes(), args.envelope.read_text())))
    except Exception as error:
        sys.exit(f"error: jwcrypto does not open {args.envelope}: {error}")


if __name__ == "__main__":
    main()
