"""Uploads a file with tuspy, in parts of --chunk bytes, and goes on with --url if that is given. Prints what it saw."""

import argparse
import json

from tusclient import client


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--meta", action="append", default=[])
    parser.add_argument("--chunk", type=int)
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--checksum", action="store_true")
    parser.add_argument("--url")
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("file")
    args = parser.parse_args()
    tus = client.TusClient(f"{args.server}/api/v1/uploads", headers={"Authorization": f"Bearer {args.token}"})
    more = {} if args.chunk is None else {"chunk_size": args.chunk}
    uploader = tus.uploader(
        args.file,
        metadata=dict(pair.split("=", 1) for pair in args.meta),
        url=args.url,
        retries=args.retries,
        retry_delay=1,
        upload_checksum=args.checksum,
        **more,
    )
    start = uploader.offset
    uploader.upload(stop_at=args.stop_at)
    print(json.dumps({"url": uploader.url, "start": start, "offset": uploader.offset}))


main()
