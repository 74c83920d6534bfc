"""An AWS KMS to test against: moto's, until it is killed.

usage: kms_keys.py PORT NUMBER
Prints the ids of NUMBER keys of ECC_NIST_P256 that it has made, as one line of JSON.
"""

import json
import sys
import time

import boto3
from moto.server import ThreadedMotoServer

port, number = int(sys.argv[1]), int(sys.argv[2])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()
kms = boto3.client(
    "kms",
    endpoint_url=f"http://127.0.0.1:{port}",
    region_name="eu-central-1",
    aws_access_key_id="snakeoil",
    aws_secret_access_key="snakeoil",
)
make = lambda: kms.create_key(KeyUsage="SIGN_VERIFY", KeySpec="ECC_NIST_P256")["KeyMetadata"]["KeyId"]
print(json.dumps([make() for _ in range(number)]), flush=True)
while True:
    time.sleep(60)
