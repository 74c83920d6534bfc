"""Wraps a data key with the `jwcrypto` package to one recipient or more, and writes the envelope to OUT."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from jwcrypto import jwe, jwk
from jwcrypto.common import base64url_encode

DATA_KEY_ALGS = ("AES256_GCM_HKDF_1MB", "AES256_GCM_HKDF_4KB")


def wrap_alg(recipient: jwk.JWK) -> str:
    return "RSA-OAEP-256" if recipient["kty"] == "RSA" else "ECDH-ES+A256KW"


def seal_envelope(recipients: list[jwk.JWK], alg: str, data_key: bytes, flattened: bool) -> dict[str, Any]:
    if flattened and len(recipients) != 1:
        raise ValueError("a flattened envelope has one recipient")
    payload = json.dumps({"kty": "oct", "alg": alg, "k": base64url_encode(data_key)})
    protected = {"enc": "A256GCM", "cty": "jwk+json"}
    headers = [{"alg": wrap_alg(key), "kid": key.thumbprint()} for key in recipients]
    if flattened:
        protected |= headers.pop()
    token = jwe.JWE(payload, protected=protected, flattened=flattened)
    for index, recipient in enumerate(recipients):
        token.add_recipient(recipient, header=headers[index] if headers else None)
    return json.loads(token.serialize())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipient", required=True, type=Path, nargs="+", action="extend", help="public key, PEM")
    parser.add_argument("--k-hex", required=True, type=bytes.fromhex)
    parser.add_argument("--alg", required=True, choices=DATA_KEY_ALGS)
    parser.add_argument("--flattened", action="store_true")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    try:
        recipients = [jwk.JWK.from_pem(path.read_bytes()) for path in args.recipient]
        envelope = seal_envelope(recipients, args.alg, args.k_hex, args.flattened)
        args.out.write_text(json.dumps(envelope))
        print(json.dumps({"kids": [key.thumbprint() for key in recipients]}))
    except Exception as error:
        sys.exit(f"error: jwcrypto does not seal: {error}")


if __name__ == "__main__":
    main()
