"""Checks that the blocks of docs/FORMAT.md are what the code and the vectors say; `--write` renews them."""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "vectors"))

from check_with_tink import read_vector  # noqa: E402
from make_vectors import SEGMENT, derive, generate, nonce  # noqa: E402


def worked_example(name: str) -> str:
    fields, sealed = read_vector(ROOT / "tests" / "vectors" / "sealed" / name)
    plaintext = generate(fields["plaintext-seed"], int(fields["plaintext-length"]))
    key, size = bytes.fromhex(fields["key"]), SEGMENT[fields["alg"]]
    lines = [
        ("data key", key.hex()),
        ("length byte", sealed[:1].hex()),
        ("salt", sealed[1:33].hex()),
        ("nonce prefix", sealed[33:40].hex()),
        ("segment key", derive(key, sealed[1:33]).hex()),
    ]
    for i, start in enumerate(range(0, len(sealed), size)):
        begin, end = max(start, 40), min(start + size, len(sealed))
        part = plaintext[max(0, i * (size - 16) - 40) : (i + 1) * (size - 16) - 40]
        lines += [
            (f"segment {i}", f"sealed[{begin}..{end}]"),
            ("  nonce", nonce(sealed[33:40], i, end == len(sealed)).hex()),
            ("  plaintext", short(part)),
            ("  ciphertext", short(sealed[begin : end - 16])),
            ("  tag", sealed[end - 16 : end].hex()),
        ]
    lines.append(("sha-256", fields["sealed-sha256"]))
    return "```\n" + "".join(f"{label:<13} {value}\n" for label, value in lines) + "```"


def short(data: bytes) -> str:
    return data.hex() if len(data) <= 16 else f"{data[:8].hex()} ... {data[-8:].hex()} ({len(data)} bytes)"


def envelope() -> str:
    case = json.loads((ROOT / "tests" / "vectors" / "envelope" / "general_opened_with_p256.json").read_text())
    return json.dumps(case["envelope"], indent=1)


def blocks() -> dict[str, str]:
    """Each block by the text that stands before it in the page."""
    stranger = (ROOT / "tests" / "interop" / "stranger.py").read_text().rstrip("\n")
    return {
        "seals the one byte `61`:\n\n": worked_example("4kb_one_byte"),
        "one more than the first segment holds:\n\n": worked_example("4kb_first_plus_one"),
        '`{"cty":"jwk+json","enc":"A256GCM"}`:\n\n': f"```json\n{envelope()}\n```",
        "as `tests/interop/stranger.py`:\n\n": f"```python\n{stranger}\n```",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    path = ROOT / "docs" / "FORMAT.md"
    page = path.read_text()
    renewed = page
    for before, block in blocks().items():
        pattern = re.compile(re.escape(before) + r"```.*?\n```$", re.DOTALL | re.MULTILINE)
        renewed, count = pattern.subn(lambda _: before + block, renewed, count=1)
        if count != 1:
            sys.exit(f"error: docs/FORMAT.md has no block after {before.strip()!r}")
    if write:
        path.write_text(renewed)
    elif renewed != page:
        sys.exit("error: docs/FORMAT.md is out of date\nhint: run tests/interop/check_format.py --write")
    print(json.dumps({"blocks": len(blocks()), "up_to_date": renewed == page}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
