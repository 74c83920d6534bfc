"""Catalogs in PostgreSQL and blobs in an object store: rows l to o."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from .fleet import Fleet
from .machine import cpu_seconds
from .process import Failed, reap, run, spawn
from .row import Row
from .servers import Motorcade, Nginx
from .text import GIB, MIB, free_port, median, ratio, settle, size_text, warm


class Stores(Fleet):
    """Rows l to o."""

    def __init__(self, opts, session: Path):
        super().__init__(opts, session)
        q = opts.quick
        self.store_size = 256 * MIB if q else 8 * GIB
        self.fleet = 2_000 if q else 20_000

    def table(self) -> dict:
        size = self.store_size
        return {
            "l": ("an upload into an object store", self.into_store, [(size, 0)], 3 * size * self.runs),
            "m": ("downloads that the store answers", self.redirects, [(16 * MIB, 0)], GIB),
            "n": ("two replicas", self.replicas, [], 2 * GIB),
            "o": ("a large fleet in PostgreSQL", self.in_postgres, [], 12 * GIB),
        }

    # -- l

    def into_store(self, row: Row, where: Path) -> None:
        """Peak RSS of a fresh server that seals one upload into Ceph's gateway, and its time against `aws s3 cp` of the same bytes.

        The gateway keeps its data in BlueStore, on the same disk and the same cores as everything else here. Each takes
        its turn with a bucket of its own; `aws s3 cp` is as it comes, with ten parts of 8 MiB at once.
        """
        size, image = self.store_size, self.image(self.store_size)
        plain, sealed, peaks, cpu = [], [], [], []
        with Store(where, bluestore=True) as store:
            for r, who in self.in_turns(["aws s3 cp", "motorcade"], self.runs):
                bucket = f"b{r}-{who.split()[0]}"
                store.aws("mb", f"s3://{bucket}")
                warm(image)
                settle()
                if who == "motorcade":
                    with Motorcade(self, where / f"m{r}", env=store.env | {"MOTORCADE_BLOBS": f"s3://{bucket}"}) as server:
                        before, idle = server.cpu(), server.peak_rss()
                        _, _, seconds = server.upload(image)
                        sealed.append(seconds)
                        peaks.append(server.peak_rss())
                        cpu.append(server.cpu() - before)
                        row.raw.append(f"motorcade {r + 1}: {seconds:.1f} s; peak RSS {size_text(peaks[-1])} ({size_text(idle)} before); server CPU {cpu[-1]:.1f} s")
                else:
                    done = store.aws("cp", "--only-show-errors", image, f"s3://{bucket}/plain.bin")
                    plain.append(done.wall)
                    row.raw.append(f"aws s3 cp {r + 1}: {done.wall:.1f} s; its own CPU {done.cpu:.1f} s")
                store.aws("rb", "--force", f"s3://{bucket}")
        row.data.update(plain_s=plain, sealed_s=sealed, peak_rss=peaks, server_cpu_s=cpu)
        row.at_most(f"{size_text(size)} uploaded into S3: server's peak RSS", max(peaks), 128 * MIB, size_text)
        row.at_most("… its time / `aws s3 cp` of the same bytes to the same store", median(sealed) / median(plain), 1.25, ratio)

    # -- m

    def redirects(self, row: Row, where: Path) -> None:
        """Server CPU of a download that is sent on to the store by a signed URL, against that of small files from memory.

        One is a snapshot, which takes a look into the catalog as a target does; the other timestamp.json, which takes none.
        """
        with Store(where) as store:
            store.aws("mb", "s3://redirects")
            with Motorcade(self, where / "m", env=store.env | {"MOTORCADE_BLOBS": "s3://redirects"}, more=("--targets-presigned", "15m")) as server:
                server.upload(self.image(16 * MIB))
                names = [line.split()[-1] for line in store.aws("ls", "--recursive", "s3://redirects/targets/").out.splitlines()]
                name = next(name for name in names if re.search(r"/[0-9a-f]{64}\.[^/]*\.bin$", name))
                timestamp = json.loads(server.ask("GET", "/repo/timestamp.json"))
                snapshot = f"{timestamp['signed']['meta']['snapshot.json']['version']}.snapshot.json"
                us = {}
                for what, file in (("redirect", name), ("snapshot", snapshot), ("timestamp", "timestamp.json")):
                    self.wrk(server, file, 1)
                    before = server.cpu()
                    count = self.wrk(server, file, 2 if self.opts.quick else 10)
                    us[what] = (server.cpu() - before) * 1e6 / count
        row.data.update(us=us)
        row.at_most("server CPU of a download that is redirected to a signed URL / of a snapshot from memory", us["redirect"] / us["snapshot"], 1.0, ratio)
        row.raw.append(", ".join(f"{what} {spent:.0f} µs" for what, spent in us.items()))

    def wrk(self, server: Motorcade, name: str, seconds: int) -> int:
        out = run(["wrk", "-t1", "-c16", f"-d{seconds}s", f"{server.url}/repo/{name}"]).out
        if bad := re.search(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)", out):
            raise Failed(f"wrk on {name}: {bad.group(0)}")
        return int(re.search(r"(\d+) requests in", out).group(1))

    # -- n

    def replicas(self, row: Row, where: Path) -> None:
        """Server CPU of an idle poll (2 ECUs) at one server, and at two which each get half of all requests.

        Both on PostgreSQL, behind nginx which gives each request to the next one: a vehicle's manifest and its timestamp
        go to different replicas. What two could answer on two machines is twice what one core's time is enough for.
        """
        with Database(where / "database") as database:
            env = {"MOTORCADE_CATALOG_URL": database.make("replicas"), "MOTORCADE_SHARED_BLOBS": str(where / "blobs")}
            (where / "blobs").mkdir()
            with Motorcade(self, where / "one", env=env) as one:
                shutil.copytree(one.data, where / "two-data", ignore=shutil.ignore_patterns("lock", "server-id"))
                self.simulate(one, "--vehicles", self.fleet, "--seconds", 0)
                alone = self.balanced(where / "lb1", one, [one], database)
                with Motorcade(self, where / "two", data=where / "two-data", env=env) as two:
                    both = self.balanced(where / "lb2", one, [one, two], database)
        row.data.update(alone=alone, both=both)
        row.at_least("two replicas / one, idle polls, by CPU a poll", 2 * alone["us"] / both["us"], 1.7, ratio)
        for what, polls in (("one", alone), ("two", both)):
            row.raw.append(f"{what}: {polls['us']:.0f} µs of servers' CPU a poll and {polls['database_us']:.0f} µs of the database's; {polls['polls_per_second']:.0f} polls a second, p50 {polls['poll_ms']['p50']} ms")

    def balanced(self, where: Path, client: Motorcade, servers: list, database: "Database") -> dict:
        """Idle polls by way of nginx, which gives each request to the next server."""
        with Balancer(where, [server.port for server in servers]) as balancer:
            fleet = ["--server", balancer.url, "--vehicles", self.fleet, "--polling", min(10_000, self.fleet), "--registered", "--concurrency", 16]
            for _ in range(3):
                self.simulate(client, *fleet, "--seconds", 5)
            spent, theirs = sum(server.cpu() for server in servers), database.cpu()
            result = self.simulate(client, *fleet, "--seconds", self.seconds)
            result["us"] = (sum(server.cpu() for server in servers) - spent) * 1e6 / result["polls"]
            result["database_us"] = (database.cpu() - theirs) * 1e6 / result["polls"]
            return result

    # -- o

    def in_postgres(self, row: Row, where: Path) -> None:
        """Registering very many vehicles in one request, from a file that was made before, and the latency of a poll beside them, against few."""
        lines = where / "vehicles.jsonl"
        with open(lines, "wb") as out:
            reap(spawn([self.tools, "vehicles", "--vehicles", self.many, "--ecus", 2], stdout=out))
        with Database(where / "database") as database:
            few_env, many_env = ({"MOTORCADE_CATALOG_URL": database.make(name)} for name in ("few", "many"))
            with Motorcade(self, where / "few", env=few_env) as few, Motorcade(self, where / "many", env=many_env) as many:
                before = sum(many.cpu_parts()), database.cpu()
                done = run(["curl", "-sS", "--fail-with-body", "-X", "POST", "-T", lines, "-H", "Content-Type: application/jsonl",
                            "-H", f"Authorization: Bearer {many.engineer}", f"{many.url}/api/v1/vehicles"])
                spent = sum(many.cpu_parts()) - before[0], database.cpu() - before[1]
                if json.loads(done.out)["registered"] != self.many:
                    raise Failed(f"not all were registered: {done.out[:300]}")
                polling = min(10_000, self.many)
                self.simulate(few, "--vehicles", 1000, "--seconds", 0)
                self.simulate(many, "--vehicles", polling, "--seconds", 0)
                pair = [self.polls(few, 1000, 1000, 8), self.polls(many, polling, polling, 8)]
        p50 = [poll["poll_ms"]["p50"] for poll in pair]
        row.data.update(few=pair[0], many=pair[1], registered_s=done.wall, registered_cpu_s=spent)
        row.at_most(f"PostgreSQL: {self.many:,} vehicles of 2 ECUs registered in bulk", done.wall, 100, lambda s: f"{s:.0f} s")
        row.at_most(f"PostgreSQL: latency of a poll (p50), {self.many:,} vehicles / 1,000 vehicles, 8 at a time", p50[1] / p50[0], 1.2, ratio)
        row.raw.append(f"registered: {spent[0]:.0f} s of the server's CPU and {spent[1]:.0f} s of the database's")
        row.raw.append(f"p50 {p50[1]} ms and {p50[0]} ms; server CPU {pair[1]['server_us']:.0f} µs and {pair[0]['server_us']:.0f} µs a poll")


SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


class Script:
    """A script that says where its server is in its first line, and ends it when its standard input does."""

    def __init__(self, where: Path, name: str, env: dict):
        where.mkdir(parents=True, exist_ok=True)
        where.chmod(0o755)
        self.process = spawn([SCRIPTS / name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(where)} | env)
        self.said = self.process.stdout.readline().split()
        if not self.said:
            raise Failed(f"scripts/{name} does not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        reap(self.process)


class Database(Script):
    """A PostgreSQL that writes what is committed to the disk."""

    def __init__(self, where: Path):
        super().__init__(where, "postgres", {"FSYNC": "on", "SHARED_BUFFERS": "512MB"})
        self.url, _, folder = self.said
        self.postmaster = int((Path(folder) / "data/postmaster.pid").read_text().split()[0])

    def make(self, name: str) -> str:
        run(["psql", "-X", "-q", "-c", f"CREATE DATABASE {name} TEMPLATE template0", f"{self.url}/postgres"])
        return f"{self.url}/{name}"

    def cpu(self) -> float:
        """CPU seconds of what runs; connections are kept, so nothing that counts has ended."""
        children = Path(f"/proc/{self.postmaster}/task/{self.postmaster}/children").read_text().split()
        return sum(cpu_seconds(int(pid)) for pid in children)


class Store(Script):
    """Ceph's gateway."""

    def __init__(self, where: Path, *, bluestore: bool = False):
        super().__init__(where, "rgw", {"STORE": "bluestore"} if bluestore else {})
        self.endpoint, key, secret, _ = self.said
        self.env = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
                    "AWS_ENDPOINT_URL_S3": self.endpoint, "AWS_EC2_METADATA_DISABLED": "true", "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}

    def aws(self, *args):
        return run(["aws", "s3", *args, "--endpoint-url", self.endpoint], env=os.environ | self.env)


class Balancer(Nginx):
    """nginx before servers, each of which gets the next request."""

    def __init__(self, where: Path, ports: list[int]):
        port = free_port()
        servers = "".join(f"server 127.0.0.1:{one};" for one in ports)
        super().__init__(where, port, f"""
    upstream servers {{ {servers} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}""")
