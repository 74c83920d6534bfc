"""Makes tests/vectors/ml_dsa/tap21.json: a key and a signature of ML-DSA-65 as securesystemslib makes them (TAP 21).

The key is new each time, and nobody keeps it. Needs securesystemslib 1.5 and cryptography 48, or later.
"""

import json
from pathlib import Path

from securesystemslib.signer import CryptoSigner

MESSAGE = '{"_type":"root","expires":"2030-01-01T00:00:00Z","version":1}'

signer = CryptoSigner.generate_mldsa(scheme="ml-dsa-65/1")
public = signer.public_key.to_dict()
# The same key without TAP 21: over the message itself, as FIPS 204 alone would have it.
pure = signer._private_key.sign(MESSAGE.encode())
vector = {
    "key": public,
    "keyid": signer.public_key.keyid,
    "message": MESSAGE,
    "signature": signer.sign(MESSAGE.encode()).signature,
    "signature_of_the_message_itself": pure.hex(),
}
out = Path(__file__).parent / "ml_dsa" / "tap21.json"
out.write_text(json.dumps(vector, indent=1) + "\n")
