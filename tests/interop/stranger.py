"""Fetches, verifies and opens a sealed image with packages from PyPI only: tuf, jwcrypto and tink.

Everything that it knows about Motorcade is in docs/FORMAT.md, which prints this file.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import tink
from jwcrypto import jwe, jwk
from jwcrypto.common import base64url_decode
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater

SEGMENT_BYTES = {"AES256_GCM_HKDF_1MB": 1 << 20, "AES256_GCM_HKDF_4KB": 1 << 12}
ENVELOPE_ALGS = ["RSA-OAEP-256", "ECDH-ES+A256KW", "A256GCM"]


def fetch(repo_url: str, root: Path, target: str, folder: Path) -> tuple[TargetFile, Path, Path]:
    """Returns the signed facts of the image, the sealed image and its envelope, all verified by TUF."""
    updater = Updater(
        metadata_dir=str(folder),
        metadata_base_url=repo_url,
        target_dir=str(folder),
        target_base_url=f"{repo_url}/targets",
        bootstrap=root.read_bytes(),
    )
    updater.refresh()
    image, envelope = updater.get_targetinfo(target), updater.get_targetinfo(f"{target}.jwe")
    if image is None or envelope is None:
        raise LookupError(f"the repository has no sealed image {target}")
    return image, Path(updater.download_target(image)), Path(updater.download_target(envelope))


def open_envelope(envelope: str, private_key_pem: bytes, alg: str) -> bytes:
    """Returns the data key; its alg must be the one that the metadata signs."""
    token = jwe.JWE(algs=ENVELOPE_ALGS)
    token.deserialize(envelope, jwk.JWK.from_pem(private_key_pem))
    data_key = json.loads(token.payload)
    if data_key["kty"] != "oct" or data_key["alg"] != alg:
        raise ValueError("the envelope holds another kind of key")
    return base64url_decode(data_key["k"])


def tink_for(alg: str, data_key: bytes) -> streaming_aead.StreamingAead:
    """Tells Tink the data key and the three parameters that the alg's name stands for."""
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(key_value=data_key)
    key.params.ciphertext_segment_size = SEGMENT_BYTES[alg]
    key.params.derived_key_size = 32
    key.params.hkdf_hash_type = common_pb2.SHA256
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    entry.key_data.value = key.SerializeToString()
    streaming_aead.register()
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def open_image(sealed: Path, facts: dict, data_key: bytes, out: Path) -> None:
    """Writes `out` only when the plaintext is the signed one, whole."""
    digest, length = hashlib.sha256(), 0
    partial = out.with_name(out.name + ".partial")
    try:
        with sealed.open("rb") as source, partial.open("wb") as target:
            with tink_for(facts["alg"], data_key).new_decrypting_stream(source, b"") as plaintext:
                while chunk := plaintext.read(1 << 20):
                    target.write(chunk)
                    digest.update(chunk)
                    length += len(chunk)
        signed = facts["plaintext"]
        if length != signed["length"] or digest.hexdigest() != signed["hashes"]["sha256"]:
            raise ValueError("the plaintext is not the one that the metadata signs")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repo-url", required=True, help="such as http://127.0.0.1:8080/repo")
    parser.add_argument("--root", required=True, type=Path, help="a root metadata file that you trust")
    parser.add_argument("--target", required=True, help="such as gw/4.2.0/gateway.bin")
    parser.add_argument("--key", required=True, type=Path, help="the recipient's private key, PEM")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(dir=args.out.parent) as folder:
            image, sealed, envelope = fetch(args.repo_url.rstrip("/"), args.root, args.target, Path(folder))
            facts = image.custom["sealed"]
            data_key = open_envelope(envelope.read_text(), args.key.read_bytes(), facts["alg"])
            open_image(sealed, facts, data_key, args.out)
    except Exception as error:
        sys.exit(f"error: {args.target} is not opened: {type(error).__name__}: {error}")
    print(json.dumps({"target": args.target, "out": str(args.out), **facts["plaintext"]}))


if __name__ == "__main__":
    main()
