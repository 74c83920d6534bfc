"""Works with a client that openapi-python-client has generated from /openapi.json, which is on PYTHONPATH.

Registers keys and a vehicle, lists, uploads, shows, assigns, and reads a refusal. Prints what came back, as JSON.
"""

import argparse
import json
from io import BytesIO
from pathlib import Path

from motorcade_client import AuthenticatedClient
from motorcade_client.api.images import list_images, show_envelope, show_image, upload_image
from motorcade_client.api.recipients import list_recipients, register_recipient
from motorcade_client.api.vehicles import assign, list_assignments, list_vehicles, register_vehicles
from motorcade_client.models import (
    NewAssignment,
    NewAssignments,
    NewEcuBody,
    NewEcuBodyRole,
    NewRecipient,
    NewVehicleBody,
)
from motorcade_client.types import File

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("token")
parser.add_argument("vin")
parser.add_argument("signing_key", type=Path)
parser.add_argument("encryption_key", type=Path)
args = parser.parse_args()

client = AuthenticatedClient(base_url=args.url, token=args.token)
signing_key, encryption_key = args.signing_key.read_text(), args.encryption_key.read_text()

recipient = register_recipient.sync(client=client, body=NewRecipient(hardware_ids=["gw-mk3"], public_key=encryption_key))
recipients = list_recipients.sync(client=client).recipients


def upload(path, content, release_counter=1, **more):
    image = File(BytesIO(content))
    return upload_image.sync_detailed(
        path, client=client, body=image, hardware_id=["gw-mk3"], version="1.0.0", release_counter=release_counter, **more
    )


def pages():
    cursor = ""
    while cursor is not None:
        page = list_images.sync(client=client, limit=1, cursor=cursor)
        yield [image.path for image in page.images]
        cursor = page.next_cursor


uploaded = [upload("gw/1/a.bin", b"one"), upload("gw/2/b.bin", b"two", requires=["a>=1"], recipient=[recipient.kid])]
refused = upload("gw/1/a.bin", b"other", release_counter=2)
ecu = NewEcuBody(
    ecu_serial="gw-0001",
    hardware_id="gw-mk3",
    role=NewEcuBodyRole.PRIMARY,
    signing_key=signing_key,
    encryption_key=encryption_key,
)
vehicle = register_vehicles.sync(client=client, body=NewVehicleBody(vin=args.vin, ecus=[ecu]))
wanted = NewAssignments(assignments=[NewAssignment(ecu_serial="gw-0001", image="gw/1/a.bin")])
assigned = assign.sync(args.vin, client=client, body=wanted)

print(
    json.dumps(
        {
            "recipients": [recipient.kid for recipient in recipients],
            "uploaded": [[answer.status_code, answer.parsed.path] for answer in uploaded],
            "refused": [refused.status_code, refused.parsed.code],
            "pages": list(pages()),
            "plaintext_length": show_image.sync("gw/2/b.bin", client=client).plaintext.length,
            "envelope": show_envelope.sync_detailed("gw/1/a.bin", client=client).status_code,
            "vehicle": [vehicle.vin, [ecu.role for ecu in vehicle.ecus]],
            "vehicles": [vehicle.vin for vehicle in list_vehicles.sync(client=client).vehicles],
            "assigned": [assignment.image for assignment in assigned.assignments],
            "stands": [a.image for a in list_assignments.sync(args.vin, client=client).assignments],
        }
    )
)
