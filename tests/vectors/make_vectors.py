"""Makes tests/vectors/sealed/: an independent implementation of the sealed image, docs/FORMAT.md.

It shares no code with Motorcade and none with Tink; AES-GCM and HKDF come from `cryptography`.
The output is the same on every run. Every case is checked against `open_sealed` below before it
is written, and `check_with_tink.py` checks the files against Tink.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any, Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER = 40
TAG = 16
SEGMENT = {"AES256_GCM_HKDF_4KB": 4096, "AES256_GCM_HKDF_1MB": 1 << 20}
KB, MB = SEGMENT
FIRST, FULL = 4096 - HEADER - TAG, 4096 - TAG  # Plaintext of a first and of a later full segment, _4KB.
NonceOf = Callable[[bytes, int, bool], bytes]


class Refused(Exception):
    """The text is the `expect` value of a vector."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def derive(key: bytes, salt: bytes, info: bytes = b"", algorithm: hashes.HashAlgorithm = hashes.SHA256()) -> bytes:
    return HKDF(algorithm, length=32, salt=salt, info=info).derive(key)


def nonce(prefix: bytes, counter: int, last: bool) -> bytes:
    return prefix + counter.to_bytes(4, "big") + bytes([last])


def open_sealed(alg: str, key: bytes, sealed: bytes) -> bytes:
    """Opens a whole sealed image, or raises Refused with the reason."""
    if sealed and sealed[0] != HEADER:
        raise Refused("header failure")
    if len(sealed) < HEADER + TAG:
        raise Refused("truncated")
    aead = AESGCM(derive(key, sealed[1:33]))
    size, plaintext = SEGMENT[alg], b""
    for counter, start in enumerate(range(0, len(sealed), size)):
        segment = sealed[max(start, HEADER) : start + size]
        last = start + size >= len(sealed)
        if len(segment) < TAG:
            raise Refused("truncated")
        try:
            plaintext += aead.decrypt(nonce(sealed[33:40], counter, last), segment, None)
        except InvalidTag:
            raise Refused("authentication failure") from None
    return plaintext


class Stream:
    """One sealed image in pieces, so that a case can rearrange them."""

    def __init__(self, name: str, alg: str, length: int, *, key: str = "", salt: str = "", nonce_of: NonceOf = nonce,
                 derived: Callable[[bytes, bytes], bytes] = derive, empty_last: bool = False) -> None:
        self.alg = alg
        self.seed = f"motorcade {name}"
        self.key = sha256(f"key {key or name}".encode())
        self.salt = sha256(f"salt {salt or name}".encode())
        self.prefix = sha256(f"prefix {name}".encode())[:7]
        self.plaintext = generate(self.seed, length)
        self.header = bytes([HEADER]) + self.salt + self.prefix
        parts = split(self.plaintext, SEGMENT[alg]) + ([b""] if empty_last else [])
        self.segments = seal_segments(derived(self.key, self.salt), self.prefix, parts, nonce_of)

    def join(self, *order: int) -> bytes:
        return self.header + b"".join(self.segments[i] for i in order or range(len(self.segments)))


def seal_segments(derived_key: bytes, prefix: bytes, parts: list[bytes], nonce_of: NonceOf = nonce) -> list[bytes]:
    aead, last = AESGCM(derived_key), len(parts) - 1
    return [aead.encrypt(nonce_of(prefix, i, i == last), part, None) for i, part in enumerate(parts)]


def split(plaintext: bytes, size: int) -> list[bytes]:
    first, full = size - HEADER - TAG, size - TAG
    rest = [plaintext[i : i + full] for i in range(first, len(plaintext), full)]
    return [plaintext[:first], *rest]


def generate(seed: str, length: int) -> bytes:
    """Test plaintext: SHA-256(seed || BE64(0)) || SHA-256(seed || BE64(1)) || ..., cut to `length`."""
    blocks = (sha256(seed.encode() + i.to_bytes(8, "big")) for i in range(-(-length // 32)))
    return b"".join(blocks)[:length]


def flip(sealed: bytes, offset: int, bit: int = 0) -> bytes:
    changed = bytearray(sealed)
    changed[offset] ^= 1 << bit
    return bytes(changed)


class Writer:
    def __init__(self, out: Path) -> None:
        self.out = out
        self.names: set[str] = set()

    def add(self, name: str, stream: Stream, expect: str, sealed: bytes, comment: str, *, alg: str = "",
            key: bytes = b"", recipe: bool = False) -> None:
        alg, key = alg or stream.alg, key or stream.key
        try:
            opened = open_sealed(alg, key, sealed)
            assert expect == "success" and opened == stream.plaintext, f"{name} opens"
        except Refused as reason:
            assert expect == str(reason), f"{name} gives {reason}"
        assert name not in self.names, name
        self.names.add(name)
        fields = {
            "comment": comment,
            "expect": expect,
            "alg": alg,
            "key": key.hex(),
            "salt": stream.salt.hex(),
            "prefix": stream.prefix.hex(),
            "sealed-length": str(len(sealed)),
            "sealed-sha256": sha256(sealed).hex(),
        }
        if expect == "success":
            fields["plaintext-seed"] = stream.seed
            fields["plaintext-length"] = str(len(stream.plaintext))
            fields["plaintext-sha256"] = sha256(stream.plaintext).hex()
        fields["body"] = "recipe" if recipe else "raw"
        text = "".join(f"{field}: {value}\n" for field, value in fields.items()) + "\n"
        (self.out / name).write_bytes(text.encode() + (b"" if recipe else sealed))

    def ok(self, name: str, stream: Stream, comment: str, **options: Any) -> None:
        self.add(name, stream, "success", stream.join(), comment, **options)

    def cut(self, name: str, stream: Stream, length: int, expect: str, comment: str) -> None:
        self.add(name, stream, expect, stream.join()[:length], comment)

    def bad(self, name: str, stream: Stream, sealed: bytes, comment: str, expect: str = "authentication failure",
            **options: Any) -> None:
        self.add(name, stream, expect, sealed, comment, **options)


def edges(size: int) -> dict[str, int]:
    first, full = size - HEADER - TAG, size - TAG
    return {
        "first_less_one": first - 1,
        "first": first,
        "first_plus_one": first + 1,
        "two_full_less_one": first + full - 1,
        "two_full": first + full,
        "two_full_plus_one": first + full + 1,
        "several": first + 2 * full + 100,
    }


def good(w: Writer) -> None:
    lengths = {"empty": 0, "one_byte": 1}
    for name, length in lengths.items():
        w.ok(f"4kb_{name}", Stream(f"4kb_{name}", KB, length), f"{length} bytes of plaintext")
        w.ok(f"1mb_{name}", Stream(f"1mb_{name}", MB, length), f"{length} bytes of plaintext")
    for name, length in edges(4096).items():
        recipe = name in ("two_full_less_one", "several")  # Keeps the folder small.
        w.ok(f"4kb_{name}", Stream(f"4kb_{name}", KB, length), f"{length} bytes of plaintext", recipe=recipe)
    for name, length in edges(1 << 20).items():
        w.ok(f"1mb_{name}", Stream(f"1mb_{name}", MB, length), f"{length} bytes of plaintext", recipe=True)
    w.ok("4kb_empty_last", Stream("4kb_empty_last", KB, FIRST, empty_last=True),
         "an empty last segment after a full one; sealers never write it and openers take it, as Tink does")
    w.ok("short_4kb_as_1mb", Stream("short_4kb_as_1mb", KB, 64),
         "a stream of one short segment is the same in both variants", alg=MB)


def truncated(w: Writer) -> None:
    s = Stream("truncated", KB, FIRST + 50)
    end = len(s.join())
    w.cut("cut_to_nothing", s, 0, "truncated", "no bytes at all")
    w.cut("cut_in_salt", s, 20, "truncated", "ends inside the header")
    w.cut("cut_header_less_one", s, 39, "truncated", "one byte short of a header")
    w.cut("cut_after_header", s, 40, "truncated", "a header and no segment")
    w.cut("cut_first_below_tag", s, 55, "truncated", "a first segment shorter than a tag")
    w.cut("cut_first_to_tag", s, 56, "authentication failure", "a first segment as long as a tag")
    w.cut("cut_in_first", s, 2000, "authentication failure", "ends inside the first segment")
    w.cut("cut_first_less_one", s, 4095, "authentication failure", "ends one byte before the first edge")
    w.cut("cut_last_segment", s, 4096, "authentication failure", "the whole last segment is missing")
    w.cut("cut_last_to_one", s, 4097, "truncated", "one byte of the last segment is left")
    w.cut("cut_last_below_tag", s, 4096 + 15, "truncated", "a last segment shorter than a tag")
    w.cut("cut_last_to_tag", s, 4096 + 16, "authentication failure", "a last segment as long as a tag")
    w.cut("cut_in_last_tag", s, end - 7, "authentication failure", "ends inside the last tag")
    w.cut("cut_last_byte", s, end - 1, "authentication failure", "the last byte is missing")
    three = Stream("truncated_three", KB, FIRST + FULL + 50)
    w.cut("cut_two_segments", three, 4096, "authentication failure", "only the first of three segments is left")
    w.cut("cut_one_of_three", three, 8192, "authentication failure", "the last of three segments is missing")


def rearranged(w: Writer) -> None:
    s = Stream("rearranged", KB, FIRST + 2 * FULL + 50)
    w.bad("reordered", s, s.join(0, 2, 1, 3), "segments 1 and 2 exchanged")
    w.bad("duplicated", s, s.join(0, 1, 1, 2, 3), "segment 1 twice")
    w.bad("missing_middle", s, s.join(0, 2, 3), "segment 1 left out")
    t = Stream("trailing", KB, 100)
    w.bad("last_twice", t, t.join(0, 0), "the last segment twice")
    w.bad("trailing_garbage_short", t, t.join() + b"\x00" * 5, "five bytes too many")
    w.bad("trailing_garbage_tag", t, t.join() + b"\x00" * 16, "sixteen bytes too many")
    w.bad("trailing_garbage_segment", t, t.join() + generate("garbage", 4096), "a segment too many")
    full = Stream("trailing_full", KB, FIRST)
    w.bad("trailing_garbage_after_full", full, full.join() + b"\x00" * 32, "32 bytes after a full last segment")
    w.bad("trailing_stream", t, t.join() + t.join(), "the same stream twice")
    one = Stream("splice_one", KB, FIRST + 50, key="splice")
    two = Stream("splice_two", KB, FIRST + 50, key="splice")
    w.bad("spliced_last", one, one.join(0) + two.segments[1], "last segment of another stream with this data key")
    w.bad("spliced_header", one, two.header + one.join()[HEADER:], "header of another stream with this data key")
    same = Stream("splice_three", KB, FIRST + 50, key="splice", salt="splice_one")
    w.bad("spliced_same_salt", one, one.join(0) + same.segments[1],
          "last segment of another stream with this data key and this salt")


def flipped(w: Writer) -> None:
    s = Stream("flipped_header", KB, 50)
    sealed = s.join()
    w.bad("flipped_length_byte", s, flip(sealed, 0), "header length 41", "header failure")
    w.bad("flipped_length_byte_high", s, flip(sealed, 0, 7), "header length 168", "header failure")
    w.bad("header_length_zero", s, b"\x00" + sealed[1:], "header length 0", "header failure")
    w.bad("header_length_24", s, bytes([24]) + sealed[1:], "header length of the AES-128 variant", "header failure")
    w.bad("flipped_salt_first", s, flip(sealed, 1), "first byte of the salt")
    w.bad("flipped_salt_last", s, flip(sealed, 32, 7), "last byte of the salt")
    w.bad("flipped_prefix_first", s, flip(sealed, 33), "first byte of the nonce prefix")
    w.bad("flipped_prefix_last", s, flip(sealed, 39, 7), "last byte of the nonce prefix")
    s = Stream("flipped", KB, FIRST + 50)
    sealed, end = s.join(), len(s.join())
    w.bad("flipped_first_segment", s, flip(sealed, 40), "first byte of the first segment")
    w.bad("flipped_first_tag", s, flip(sealed, 4095, 7), "last byte of the first tag")
    w.bad("flipped_last_segment", s, flip(sealed, 4096), "first byte of the last segment")
    w.bad("flipped_last_tag", s, flip(sealed, end - 1, 7), "last byte of the last tag")
    empty = Stream("flipped_empty", KB, 0)
    w.bad("flipped_empty_tag", empty, flip(empty.join(), 40), "the tag of an empty image")
    three = Stream("flipped_three", KB, FIRST + FULL + 50)
    w.bad("flipped_middle_segment", three, flip(three.join(), 6000), "a byte in the middle segment")
    w.bad("flipped_middle_tag", three, flip(three.join(), 8192 - 16), "first byte of the middle tag")


def wrong_sealer(w: Writer) -> None:
    """Streams that a sealer with a mistake would write."""

    def case(name: str, comment: str, length: int = FIRST + 50, **options: Any) -> None:
        stream = Stream(name, KB, length, **options)
        w.bad(name, stream, stream.join(), comment)

    case("no_last_flag", "no segment has the last flag", 50, nonce_of=lambda p, i, last: nonce(p, i, False))
    case("last_flag_on_all", "every segment has the last flag", nonce_of=lambda p, i, last: nonce(p, i, True))
    case("last_flag_on_middle", "the middle segment has the last flag too", FIRST + FULL + 50,
         nonce_of=lambda p, i, last: nonce(p, i, last or i == 1))
    case("last_flag_two", "the last flag is 2", 50,
         nonce_of=lambda p, i, last: p + i.to_bytes(4, "big") + bytes([2 * last]))
    case("counter_from_one", "the counter starts at 1", 50, nonce_of=lambda p, i, last: nonce(p, i + 1, last))
    case("counter_stuck", "the counter stays at 0", nonce_of=lambda p, i, last: nonce(p, 0, last))
    case("counter_little_endian", "the counter is little-endian",
         nonce_of=lambda p, i, last: p + i.to_bytes(4, "little") + bytes([last]))
    case("no_key_derivation", "the data key is used without HKDF", 50, derived=lambda key, salt: key)
    case("hkdf_sha512", "HKDF with SHA-512", 50, derived=lambda k, s: derive(k, s, algorithm=hashes.SHA512()))
    case("hkdf_without_salt", "HKDF with no salt", 50, derived=lambda key, salt: derive(key, b""))
    case("associated_data", "HKDF with associated data", 50, derived=lambda key, salt: derive(key, salt, b"gw-mk3"))
    right = Stream("wrong_key", KB, 50)
    w.bad("wrong_key", right, right.join(), "another data key", key=sha256(b"key another"))
    w.bad("wrong_key_one_bit", right, right.join(), "one bit of the data key is wrong", key=flip(right.key, 31))
    two = Stream("4kb_as_1mb", KB, FIRST + 50)
    w.bad("4kb_as_1mb", two, two.join(), "a 4 KiB stream of two segments opened as 1 MiB", alg=MB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "sealed")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(out)
    for group in (good, truncated, rearranged, flipped, wrong_sealer):
        group(writer)
    for old in out.iterdir():
        if old.name not in writer.names | {"README.md"}:
            old.unlink()
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{len(writer.names)} vectors, {size} bytes, in {out}")


if __name__ == "__main__":
    main()
