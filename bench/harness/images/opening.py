"""Row 6: opening a sealed image."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ..process import Failed, run
from ..row import Row
from ..servers import Motorcade
from ..text import GB, median, ratio, seconds_text, settle, sha256_of, size_text, warm


class Opening:
    """Methods of `Images`."""

    # -- 6

    def opening(self, row: Row, where: Path) -> None:
        """Opening the same image with motorcade open, rage -d and openssl cms -decrypt, file to file, input in the page cache.

        openssl keeps the whole message in memory and fails on anything over about 1.4 GiB, so it is compared at a smaller
        size, with the form it opens faster (definite length, -noindef). The ratio is of the time until the program ends;
        the time until the output is on the disk is under it.
        """
        big, small = self.open_sizes
        cert, cert_key, rage_key = where / "cert.pem", where / "cert.key", where / "rage.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", cert_key, "-out", cert, "-days", "30", "-subj", "/CN=gateway"])
        run(["rage-keygen", "-o", rage_key])
        recipient = re.search(r"public key: (age1\S+)", rage_key.read_text())
        if not recipient:
            raise Failed("rage-keygen wrote no public key")
        for size, other in ((big, "rage"), (small, "openssl")):
            image = self.image(size)
            digest = sha256_of(image)
            here = where / other
            with Motorcade(self, here) as server:
                _, path, _ = server.upload(image)
                sealed, envelope = server.stored(path)
            opened, theirs = here / "opened.bin", here / "image.theirs"
            mine = [self.binary, "open", "--envelope", envelope, "--key", server.key, "--out", opened, sealed]
            if other == "rage":
                run(["rage", "-r", recipient.group(1), "-o", theirs, image])
                their = ["rage", "-d", "-i", rage_key, "-o", opened, theirs]
            else:
                run(["openssl", "cms", "-encrypt", "-aes-256-gcm", "-binary", "-noindef", "-outform", "DER",
                     "-in", image, "-out", theirs, cert])
                their = ["openssl", "cms", "-decrypt", "-inform", "DER", "-inkey", cert_key, "-recip", cert,
                         "-in", theirs, "-out", opened]
            times = {"motorcade": [], other: []}
            durable = {"motorcade": [], other: []}
            cpu = {"motorcade": [], other: []}
            for r, who in self.in_turns(["motorcade", other], self.runs):
                warm(sealed if who == "motorcade" else theirs)
                settle()
                done = run(mine if who == "motorcade" else their, env=server.env)
                synced = run(["sync", opened]).wall
                times[who].append(done.wall)
                durable[who].append(done.wall + synced)
                cpu[who].append(done.cpu)
                if r == 0 and sha256_of(opened) != digest:
                    raise Failed(f"{who} opened it to something else")
                opened.unlink()
            gb = size / GB
            for who in times:
                row.raw.append(
                    f"{size_text(size)}, {who}: {seconds_text(times[who])}: {median(times[who]) / gb:.3f} s/GB, CPU {median(cpu[who]) / gb:.3f} s/GB; "
                    f"until it is on the disk {seconds_text(durable[who])}"
                )
            row.raw.append(f"{size_text(size)}, ratio until it is on the disk: {ratio(median(durable['motorcade']) / median(durable[other]))}")
            row.data[other] = {"size": size, "seconds": times, "durable_seconds": durable, "cpu_seconds": cpu}
            name = "rage -d" if other == "rage" else "openssl cms -decrypt"
            row.under(f"motorcade open / {name} ({size_text(size)})", median(times["motorcade"]) / median(times[other]), 1.0, ratio)
            shutil.rmtree(here)
