"""Makes tests/vectors/envelope/ and, when they are missing, the keys in tests/vectors/keys/, with `jwcrypto`.

Wrapping a key is random, so every run writes other bytes; run it to change the cases, not to check them
(that is `check_with_jwcrypto.py`).
"""

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import Any

from jwcrypto import jwe, jwk
from jwcrypto.common import base64url_decode, base64url_encode

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

from jwe_seal import seal_envelope  # noqa: E402

Envelope = dict[str, Any]
KEYS: dict[str, dict[str, Any]] = {
    "rsa2048": {"kty": "RSA", "size": 2048},
    "rsa3072": {"kty": "RSA", "size": 3072},
    "p256": {"kty": "EC", "crv": "P-256"},
    "p256_other": {"kty": "EC", "crv": "P-256"},
}
ALG = "AES256_GCM_HKDF_1MB"
DATA_KEY = bytes(range(0x60, 0x80))
PAYLOAD = {"kty": "oct", "alg": ALG, "k": base64url_encode(DATA_KEY)}


def load_keys(folder: Path) -> dict[str, jwk.JWK]:
    keys = {}
    for name, options in KEYS.items():
        private, public = folder / f"snakeoil_{name}.pem", folder / f"snakeoil_{name}.pub.pem"
        if not private.exists():
            key = jwk.JWK.generate(**options)
            private.write_bytes(key.export_to_pem(private_key=True, password=None))
            public.write_bytes(key.export_to_pem())
        keys[name] = jwk.JWK.from_pem(private.read_bytes())
    return keys


def flattened(key: jwk.JWK, header: dict[str, Any], *, payload: str = json.dumps(PAYLOAD), enc: str = "A256GCM",
              algs: list[str] | None = None, registry: dict[str, Any] | None = None) -> Envelope:
    """A flattened JWE with `header` added to the protected one."""
    protected = {"enc": enc, "cty": "jwk+json", "kid": key.thumbprint()} | header
    token = jwe.JWE(payload, protected=protected, algs=algs, header_registry=registry)
    token.add_recipient(key)
    return json.loads(token.serialize())


def flip(text: str) -> str:
    changed = bytearray(base64url_decode(text))
    changed[0] ^= 1
    return base64url_encode(bytes(changed))


def changed(envelope: Envelope, **members: Any) -> Envelope:
    """A copy with members replaced, or left out where the value is None."""
    copied = copy.deepcopy(envelope) | members
    return {name: value for name, value in copied.items() if value is not None}


def with_epk(envelope: Envelope, **members: Any) -> Envelope:
    return changed(envelope, header={"epk": changed(envelope["header"]["epk"], **members)})


class Cases:
    def __init__(self, out: Path) -> None:
        self.out = out

    def write(self, name: str, expect: str, key: str, comment: str, **content: Any) -> None:
        case = {"comment": comment, "expect": expect, "key": f"snakeoil_{key}.pem"} | content
        (self.out / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")

    def opens(self, name: str, key: str, envelope: Envelope, comment: str, alg: str = ALG) -> None:
        self.write(name, "success", key, comment, alg=alg, k=base64url_encode(DATA_KEY), envelope=envelope)

    def fails(self, name: str, expect: str, key: str, envelope: Envelope | str, comment: str) -> None:
        content = {"raw": envelope} if isinstance(envelope, str) else {"envelope": envelope}
        self.write(name, expect, key, comment, **content)


def good(c: Cases, keys: dict[str, jwk.JWK]) -> None:
    rsa, rsa3072, ec = keys["rsa2048"], keys["rsa3072"], keys["p256"]
    for name in ("rsa2048", "rsa3072", "p256"):
        c.opens(f"flattened_{name}", name, seal_envelope([keys[name]], ALG, DATA_KEY, True), "one recipient")
        c.opens(f"general_one_{name}", name, seal_envelope([keys[name]], ALG, DATA_KEY, False),
                "general serialization with one recipient")
    both = seal_envelope([rsa, ec], ALG, DATA_KEY, False)
    c.opens("general_opened_with_rsa2048", "rsa2048", both, "RSA and P-256 recipients")
    c.opens("general_opened_with_p256", "p256", both, "RSA and P-256 recipients")
    three = seal_envelope([keys["p256_other"], rsa3072, ec], ALG, DATA_KEY, False)
    c.opens("general_second_p256", "p256", three, "two P-256 recipients, the right one last")
    c.opens("flattened_4kb", "p256", seal_envelope([ec], "AES256_GCM_HKDF_4KB", DATA_KEY, True),
            "the data key of a 4 KiB image", alg="AES256_GCM_HKDF_4KB")
    token = jwe.JWE.from_jose_token(json.dumps(flattened(ec, {"alg": "ECDH-ES+A256KW"})))
    token.decrypt(ec)
    compact = token.serialize(compact=True).split(".")
    names = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
    c.opens("flattened_all_protected", "p256", dict(zip(names, compact)), "epk is in the protected header")
    c.opens("flattened_apu_apv", "p256",
            flattened(ec, {"alg": "ECDH-ES+A256KW", "apu": "Q0k", "apv": "Z3ctbWsz"}), "ECDH-ES with apu and apv")
    c.opens("header_unknown", "p256", flattened(ec, {"alg": "ECDH-ES+A256KW", "typ": "JOSE+JSON", "note": 1}),
            "header parameters that are not critical and not known")
    other = copy.deepcopy(both)
    other["recipients"].insert(0, {"header": {"alg": "ML-KEM-768+A256KW", "kid": "x"}, "encrypted_key": "AAAA"})
    c.opens("general_unknown_recipient", "p256", other, "another recipient's alg is not known")


def tampered(c: Cases, keys: dict[str, jwk.JWK]) -> None:
    rsa, ec = keys["rsa2048"], keys["p256"]
    envelope = seal_envelope([ec], ALG, DATA_KEY, True)
    fault = "authentication failure"
    for member in ("tag", "iv", "ciphertext", "encrypted_key"):
        c.fails(f"flipped_{member}", fault, "p256", changed(envelope, **{member: flip(envelope[member])}),
                f"one bit of {member}")
    wrapped = seal_envelope([rsa], ALG, DATA_KEY, True)
    c.fails("flipped_encrypted_key_rsa", fault, "rsa2048",
            changed(wrapped, encrypted_key=flip(wrapped["encrypted_key"])), "one bit of encrypted_key, RSA")
    protected = json.loads(base64url_decode(envelope["protected"]))
    c.fails("changed_protected", fault, "p256",
            changed(envelope, protected=base64url_encode(json.dumps(protected | {"cty": "json"}))),
            "cty changed in the protected header")
    sha1 = flattened(rsa, {"alg": "RSA-OAEP"})
    header = json.loads(base64url_decode(sha1["protected"])) | {"alg": "RSA-OAEP-256"}
    c.fails("wrong_alg", fault, "rsa2048", changed(sha1, protected=base64url_encode(json.dumps(header))),
            "wrapped with RSA-OAEP, says RSA-OAEP-256")
    general = seal_envelope([rsa, ec], ALG, DATA_KEY, False)
    general["recipients"][1]["encrypted_key"] = flip(general["recipients"][1]["encrypted_key"])
    c.fails("general_flipped_encrypted_key", fault, "p256", general, "our recipient is damaged, another is whole")
    c.fails("other_epk", fault, "p256",
            with_epk(envelope, **jwk.JWK.generate(kty="EC", crv="P-256").export_public(as_dict=True)),
            "another ephemeral key, on the curve")


def unsupported(c: Cases, keys: dict[str, jwk.JWK]) -> None:
    rsa, ec = keys["rsa2048"], keys["p256"]
    fault = "unsupported"
    c.fails("rsa1_5", fault, "rsa2048", flattened(rsa, {"alg": "RSA1_5"}, algs=["RSA1_5", "A256GCM"]), "PKCS #1 v1.5")
    c.fails("rsa_oaep_sha1", fault, "rsa2048", flattened(rsa, {"alg": "RSA-OAEP"}), "OAEP with SHA-1")
    c.fails("ecdh_es_direct", fault, "p256", flattened(ec, {"alg": "ECDH-ES"}), "no key wrap")
    c.fails("ecdh_es_a128kw", fault, "p256", flattened(ec, {"alg": "ECDH-ES+A128KW"}), "key wrap with 128 bits")
    for enc in ("A128GCM", "A256CBC-HS512"):
        c.fails(f"enc_{enc.lower().replace('-', '_')}", fault, "p256",
                flattened(ec, {"alg": "ECDH-ES+A256KW"}, enc=enc), f"enc {enc}")
    c.fails("zip_def", fault, "p256", flattened(ec, {"alg": "ECDH-ES+A256KW", "zip": "DEF"}), "compressed payload")
    c.fails("crit_unknown", fault, "p256",
            flattened(ec, {"alg": "ECDH-ES+A256KW", "crit": ["note"], "note": 1}), "a critical parameter nobody knows")
    envelope = seal_envelope([ec], ALG, DATA_KEY, True)
    p384 = jwk.JWK.generate(kty="EC", crv="P-384").export_public(as_dict=True)
    c.fails("epk_p384", fault, "p256", with_epk(envelope, **p384), "ephemeral key on P-384")
    c.fails("payload_alg_unknown", fault, "p256",
            flattened(ec, {"alg": "ECDH-ES+A256KW"}, payload=json.dumps(PAYLOAD | {"alg": "A256GCM"})),
            "a data key for some other use")


def malformed(c: Cases, keys: dict[str, jwk.JWK]) -> None:
    ec = keys["p256"]
    envelope = seal_envelope([ec], ALG, DATA_KEY, True)
    general = seal_envelope([keys["rsa2048"], ec], ALG, DATA_KEY, False)
    text = json.dumps(envelope)

    def case(name: str, content: Envelope | str, comment: str) -> None:
        c.fails(name, "malformed", "p256", content, comment)

    case("empty", "", "no bytes")
    case("not_json", "sealed", "not JSON")
    case("empty_object", {}, "no members")
    case("truncated_json", text[: len(text) // 2], "half of an envelope")
    case("trailing_json", text + text, "two envelopes in a row")
    for member in ("protected", "iv", "ciphertext", "tag", "encrypted_key"):
        case(f"missing_{member}", changed(envelope, **{member: None}), f"no {member}")
    case("duplicate_member", text[:-1] + f', "ciphertext": "{envelope["ciphertext"]}"}}', "ciphertext twice")
    header = json.dumps({"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "cty": "jwk+json", "kid": ec.thumbprint()})
    token = jwe.JWE(json.dumps(PAYLOAD), protected=header[:-1] + ', "enc": "A256GCM"}')
    token.add_recipient(ec)
    case("duplicate_in_protected", json.loads(token.serialize()), "enc twice in the protected header")
    case("duplicate_across_headers", changed(envelope, header=envelope["header"] | {"enc": "A256GCM"}),
         "enc in the protected header and in the other one")
    case("recipients_empty", changed(general, recipients=[]), "an empty list of recipients")
    case("both_serializations", general | {"encrypted_key": general["recipients"][1]["encrypted_key"]},
         "recipients and encrypted_key side by side")
    # No number of bytes has a base64url of 21 characters.
    case("base64_truncated", changed(envelope, tag=envelope["tag"][:21]), "a tag whose base64url is cut")
    case("base64_padded", changed(envelope, tag=envelope["tag"] + "=="), "base64url with padding")
    case("base64_space", changed(envelope, iv=envelope["iv"][:4] + " " + envelope["iv"][4:]), "a space in base64url")
    case("tag_short", changed(envelope, tag=base64url_encode(base64url_decode(envelope["tag"])[:12])), "12-byte tag")
    case("iv_short", changed(envelope, iv=base64url_encode(base64url_decode(envelope["iv"])[:8])), "8-byte IV")
    case("crit_empty", flattened(ec, {"alg": "ECDH-ES+A256KW", "crit": []}), "crit is an empty list")
    case("epk_missing", changed(envelope, header=None), "no ephemeral key")
    case("epk_not_on_curve", with_epk(envelope, y=flip(envelope["header"]["epk"]["y"])), "a point not on the curve")
    case("epk_zero", with_epk(envelope, x=base64url_encode(bytes(32)), y=base64url_encode(bytes(32))), "the point 0, 0")
    x = base64url_decode(envelope["header"]["epk"]["x"])
    case("epk_short", with_epk(envelope, x=base64url_encode(x[:31])), "a coordinate of 31 bytes")
    payloads: dict[str, str] = {
        "payload_not_json": "data key",
        "payload_not_oct": json.dumps(PAYLOAD | {"kty": "RSA"}),
        "payload_k_short": json.dumps(PAYLOAD | {"k": base64url_encode(DATA_KEY[:16])}),
        "payload_k_long": json.dumps(PAYLOAD | {"k": base64url_encode(DATA_KEY + b"\x00")}),
        "payload_k_missing": json.dumps({"kty": "oct", "alg": ALG}),
        "payload_duplicate_k": json.dumps(PAYLOAD)[:-1] + f', "k": "{PAYLOAD["k"]}"}}',
    }
    for name, payload in payloads.items():
        case(name, flattened(ec, {"alg": "ECDH-ES+A256KW"}, payload=payload), "the payload is not a data key")


def not_for_us(c: Cases, keys: dict[str, jwk.JWK]) -> None:
    rsa, ec = keys["rsa2048"], keys["p256"]
    fault = "no recipient"
    c.fails("other_key", fault, "p256_other", seal_envelope([rsa, ec], ALG, DATA_KEY, False), "not for this P-256 key")
    c.fails("other_key_flattened", fault, "p256_other", seal_envelope([ec], ALG, DATA_KEY, True),
            "not for this P-256 key")
    c.fails("other_kind_of_key", fault, "p256", seal_envelope([rsa], ALG, DATA_KEY, False), "only an RSA recipient")
    c.fails("other_rsa_key", fault, "rsa3072", seal_envelope([rsa, ec], ALG, DATA_KEY, False), "not for this RSA key")


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    out = HERE / "envelope"
    for old in out.glob("*.json"):
        old.unlink()
    cases, keys = Cases(out), load_keys(HERE / "keys")
    for group in (good, tampered, unsupported, malformed, not_for_us):
        group(cases, keys)
    print(f"{len(list(out.glob('*.json')))} vectors in {out}")


if __name__ == "__main__":
    main()
