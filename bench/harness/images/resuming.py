"""Row 12: what it costs to go on with an upload that was cut off."""

from __future__ import annotations

import base64
import http.client
import shutil
from pathlib import Path

from ..process import Failed
from ..row import Row
from ..servers import HARDWARE, Motorcade
from ..text import GB, median, percent, ratio, settle, sha256_of, size_text, warm


class Resuming:
    """Methods of `Images`."""

    def resuming(self, row: Row, where: Path) -> None:
        """Bytes that are sent after a cut at 90 %, and the server's CPU for all of it, against one unbroken PUT.

        The upload goes by tus from a client that closes its connection after nine tenths, asks for the offset, and sends
        what is left; its image is then opened and compared. The server's CPU is that of both connections.
        """
        size, image = self.resume_size, self.image(self.resume_size)
        put, cut, shares, user = [], [], [], {"put": [], "cut": []}
        for r, who in self.in_turns(["put", "cut"], self.runs):
            settle()
            warm(image)
            with Motorcade(self, where / "m") as server:
                before = server.cpu_parts()

                def spent() -> float:
                    """CPU seconds per GB so far; the user's share is kept."""
                    parts = [(now - then) / (size / GB) for now, then in zip(server.cpu_parts(), before)]
                    user[who].append(parts[0])
                    return sum(parts)

                if who == "put":
                    server.upload(image)
                    put.append(spent())
                    row.raw.append(f"unbroken PUT {r + 1}: server {put[-1]:.3f} CPU s/GB, {user[who][-1]:.3f} without the kernel")
                else:
                    offset, sent = cut_and_resumed(server, image)
                    cut.append(spent())
                    shares.append(sent / size)
                    row.raw.append(
                        f"cut at 90 % {r + 1}: server {cut[-1]:.3f} CPU s/GB, {user[who][-1]:.3f} without the kernel; gone on with from {percent(offset / size)}; "
                        f"{size_text(sent)} were sent after the cut, {size_text(max(0, sent - (size - size * 9 // 10)))} of them for the second time; "
                        f"peak RSS {size_text(server.peak_rss())}"
                    )
                    check(server, image, where / "opened.bin")
            shutil.rmtree(where / "m")
        row.data.update(user_s_per_gb=user, put_s_per_gb=put, resumed_s_per_gb=cut, sent_after_the_cut=shares)
        row.under(f"sent after a cut at 90 % of {size_text(size)}, of all bytes", max(shares), 0.12, percent)
        row.at_most("server CPU per GB, cut and resumed / one unbroken PUT", median(cut) / median(put), 1.1, ratio)
        row.told("… without the kernel", ratio(median(user["cut"]) / median(user["put"])), median(user["cut"]) / median(user["put"]))


PATH = "gw/5.0.0/gateway.bin"


def cut_and_resumed(server: Motorcade, image: Path) -> tuple[int, int]:
    """Returns from where the upload was gone on with, and how many bytes were sent then."""
    size = image.stat().st_size
    said = {"path": PATH, "hardware_id": HARDWARE, "version": "5.0.0", "release_counter": "1"}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
    answer = ask(server, "POST", "/api/v1/uploads", {"Upload-Length": size, "Upload-Metadata": metadata})
    where = answer["location"]
    send(server, where, image, 0, size * 9 // 10)
    offset = int(ask(server, "HEAD", where, {})["upload-offset"])
    sent = send(server, where, image, offset, size)
    if int(ask(server, "HEAD", where, {})["upload-offset"]) != size:
        raise Failed("the upload was not whole after the second connection")
    return offset, sent


def ask(server: Motorcade, method: str, path: str, fields: dict) -> dict:
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    c.request(method, path, headers=head(server, fields))
    r = c.getresponse()
    said = r.read()
    c.close()
    if r.status >= 300:
        raise Failed(f"{method} {path} got {r.status}: {said[:300]!r}")
    return {key.lower(): value for key, value in r.getheaders()}


def send(server: Motorcade, where: str, image: Path, start: int, end: int) -> int:
    """Announces all that is left, and sends it up to `end`; closes the connection there."""
    size = image.stat().st_size
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    c.putrequest("PATCH", where)
    fields = {"Upload-Offset": start, "Content-Type": "application/offset+octet-stream", "Content-Length": size - start}
    for key, value in head(server, fields).items():
        c.putheader(key, str(value))
    c.endheaders()
    with open(image, "rb") as f:
        c.sock.sendfile(f, start, end - start)
    if end == size:
        r = c.getresponse()
        said = r.read()
        if r.status != 204:
            raise Failed(f"PATCH {where} got {r.status}: {said[:300]!r}")
    c.close()
    return end - start


def head(server: Motorcade, fields: dict) -> dict:
    return {"Authorization": f"Bearer {server.token}", "Tus-Resumable": "1.0.0"} | {key: str(value) for key, value in fields.items()}


def check(server: Motorcade, image: Path, opened: Path) -> None:
    sealed, envelope = server.stored(PATH)
    server.cli("open", "--envelope", envelope, "--key", server.key, "--out", opened, sealed)
    if sha256_of(opened) != sha256_of(image):
        raise Failed("the image that was resumed is not the one that was sent")
    opened.unlink()
