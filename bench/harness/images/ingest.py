"""Rows 1 to 5: what uploads take."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from ..machine import CORES, bytes_read, jiffies
from ..process import COMMAND_LIMIT, Failed, reap, run, spawn
from ..row import Line, Row
from ..servers import FileServer, Motorcade
from ..text import GB, MIB, median, percent, ratio, seconds_text, settle, sha256_of, size_text, warm


class Ingest:
    """Methods of `Images`."""

    # -- 1

    def memory(self, row: Row, where: Path) -> None:
        """Peak RSS (VmHWM) of a fresh server process, after one upload."""
        peaks = []
        for n, size in enumerate(self.memory_sizes):
            image = self.image(size)
            with Motorcade(self, where / str(n)) as server:
                idle = server.peak_rss()
                done, _, _ = server.upload(image)
                peaks.append(server.peak_rss())
            row.raw.append(
                f"{size_text(size)}: peak {size_text(peaks[-1])} (before the upload {size_text(idle)}), "
                f"{done.wall:.1f} s, {size / GB / done.wall:.2f} GB/s"
            )
            shutil.rmtree(where / str(n))
        row.data["peak_rss_bytes"] = dict(zip(map(str, self.memory_sizes), peaks))
        big, small = map(size_text, self.memory_sizes)
        row.at_most(f"server memory (peak RSS) while {big} is uploaded", peaks[0], 64 * MIB, size_text)
        row.at_most(f"the same for {small}: difference", abs(peaks[0] / peaks[1] - 1), 0.10, percent)

    # -- 2

    def parallel(self, row: Row, where: Path) -> None:
        """Peak RSS of a fresh server process after four different images at once; each is then opened and compared."""
        images = [self.image(self.parallel_size, i) for i in range(4)]
        with Motorcade(self, where) as server:
            going, start = [], time.perf_counter()
            for i, image in enumerate(images):
                answer = where / f"parallel-{i}.json"
                cmd, path = server.upload_command(image, answer)
                out = open(where / f"parallel-{i}.out", "w+b")
                going.append((spawn(cmd, stdout=out, stderr=subprocess.STDOUT), out, answer, path))
            for p, out, answer, _ in going:
                reap(p)
                out.seek(0)
                said = out.read().decode(errors="replace")
                out.close()
                if p.returncode:
                    raise Failed(f"curl ended with {p.returncode}: {said} {server.log_tail()}")
                server.check_answer(said, answer)
            wall = time.perf_counter() - start
            peak = server.peak_rss()
            right = 0
            for image, (_, _, _, path) in zip(images, going):
                sealed, envelope = server.stored(path)
                opened = where / "opened.bin"
                server.cli("open", "--envelope", envelope, "--key", server.key, "--out", opened, sealed)
                name_is_hash = sealed.name.startswith(sha256_of(sealed) + ".")
                right += name_is_hash and sha256_of(opened) == sha256_of(image)
                opened.unlink()
        total = 4 * self.parallel_size
        row.raw.append(f"peak {size_text(peak)}; all four in {wall:.1f} s, {total / GB / wall:.2f} GB/s; {right} of 4 open to the image that was sent")
        row.data.update(peak_rss_bytes=peak, wall_s=wall, correct=right)
        row.at_most(f"four {size_text(self.parallel_size)} uploads at once: peak RSS", peak, 160 * MIB, size_text)
        row.lines.append(Line("… all correct (opened, SHA-256 compared)", "4 of 4", f"{right} of 4", right, right == 4))

    # -- 3

    def ingest_cpu(self, row: Row, where: Path) -> None:
        """User and system time of the server over an upload, against its parts, measured alone between the uploads.

        The parts are what no server could save: two SHA-256, one AES-GCM, one file write. Receiving the body from the
        socket, HTTP, scheduling and signing are in the server's figure and not in the parts.
        """
        size, image = self.upload_size, self.image(self.upload_size)
        parts, servers = [], []
        for r, who in self.in_turns(["parts", "server"], self.runs):
            settle()
            if who == "parts":
                (where / "parts").mkdir(exist_ok=True)
                out = self.tool("parts", "--size", size, "--dir", where / "parts")
                shutil.rmtree(where / "parts")
                parts.append(out)
            else:
                warm(image)
                with Motorcade(self, where / "m") as server:
                    before = server.cpu()
                    done, _, _ = server.upload(image)
                    servers.append((server.cpu() - before) / (size / GB))
                    row.raw.append(f"upload {r + 1}: server {servers[-1]:.3f} CPU s/GB; {done.wall:.2f} s wall; curl {done.cpu / (size / GB):.3f} CPU s/GB")
                shutil.rmtree(where / "m")
        names = ("sha256_s_per_gb", "aes_gcm_s_per_gb", "write_s_per_gb")
        sha, gcm, write = (median([p[n] for p in parts]) for n in names)
        total = 2 * sha + gcm + write
        row.raw.append(f"parts, CPU s/GB (medians of {len(parts)}): SHA-256 {sha:.3f} (twice), AES-GCM {gcm:.3f}, write {write:.3f}; sum {total:.3f}")
        row.data.update(server_s_per_gb=servers, parts=parts, parts_sum_s_per_gb=total)
        row.at_most("server CPU per GB ingested / two SHA-256 + AES-GCM + file write", median(servers) / total, 1.3, ratio)

    # -- 4

    def against_script(self, row: Row, where: Path) -> None:
        """Wall time of one curl -T to Motorcade, against what a careful CI script does today.

        The script: sha256sum, openssl cms -encrypt -aes-256-gcm (-stream, without which openssl keeps everything in
        memory and fails from about 1.4 GiB on), sha256sum of the result, curl -T to nginx WebDAV. Its steps need each other's
        results, so they run one after another. Motorcade syncs the sealed image to disk before it answers; nginx does
        not: the second figure adds that sync (of the received file alone). The third has OpenSSL's
        SHA-256, which uses the processor's instructions, where the coreutils of the machine do not.
        """
        size, image = self.upload_size, self.image(self.upload_size)
        cert, cert_key = where / "cert.pem", where / "cert.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", cert_key, "-out", cert, "-days", "30", "-subj", "/CN=gateway"])
        ours, script, synced, fast, phases = [], [], [], [], []
        dav_root = where / "dav"
        with FileServer(where / "nginx", dav_root, dav=True) as nginx:
            for r, who in self.in_turns(["motorcade", "script"], self.runs):
                settle()
                warm(image)
                if who == "motorcade":
                    with Motorcade(self, where / "m") as server:
                        done, _, _ = server.upload(image)
                        ours.append(done.wall)
                    shutil.rmtree(where / "m")
                    continue
                sealed = where / "image.cms"
                start = time.perf_counter()
                a = run(["sha256sum", image])
                b = run(["openssl", "cms", "-encrypt", "-aes-256-gcm", "-binary", "-stream", "-outform", "DER",
                         "-in", image, "-out", sealed, cert])
                c = run(["sha256sum", sealed])
                d = run(["curl", "-sS", "-f", "-T", sealed, f"{nginx.url}/incoming/image.cms"])
                script.append(time.perf_counter() - start)
                received = dav_root / "incoming" / "image.cms"
                e = run(["sync", received])
                synced.append(script[-1] + e.wall)
                if received.stat().st_size != sealed.stat().st_size:
                    raise Failed("nginx stored something else")
                # OpenSSL's hash instead, timed beside it on the same files.
                h = run(["openssl", "dgst", "-sha256", image]).wall + run(["openssl", "dgst", "-sha256", sealed]).wall
                fast.append(script[-1] - a.wall - c.wall + h)
                phases.append((a.wall, b.wall, c.wall, d.wall, e.wall, h))
                sealed.unlink()
                received.unlink()
        m, s, y, f = median(ours), median(script), median(synced), median(fast)
        p = [median([x[i] for x in phases]) for i in range(6)]
        row.raw += [
            f"image {size_text(size)}; motorcade {seconds_text(ours)}: {size / GB / m:.2f} GB/s",
            f"script {seconds_text(script)}: sha256sum {p[0]:.2f}, cms {p[1]:.2f}, sha256sum {p[2]:.2f}, PUT {p[3]:.2f}",
            f"script with a sync of the received file (we sync always) {seconds_text(synced)}: ratio {ratio(m / y)}",
            f"script with `openssl dgst -sha256` for both hashes ({p[5]:.2f} s) {seconds_text(fast)}: ratio {ratio(m / f)}; with that and the sync: {ratio(m / (f + p[4]))}",
        ]
        row.data.update(motorcade_s=ours, script_s=script, script_synced_s=synced, script_openssl_dgst_s=fast)
        row.at_most("wall time of an upload / CI script (hash, openssl cms, hash, WebDAV)", m / s, 0.6, ratio)

    # -- 5

    def cores_busy(self, row: Row, where: Path) -> None:
        """Share of all cores that is not idle during one upload, from /proc/stat.

        What waits for the disk counts as idle. The last sync and the publication are in the whole, not in the second
        figure, which ends when curl has read the last byte of the image.
        """
        size, image = self.upload_size, self.image(self.upload_size)
        shares, bodies, owns, servers = [], [], [], []
        for r in range(self.runs):
            settle()
            warm(image)
            with Motorcade(self, where / "m") as server:
                answer = where / "busy.json"
                cmd, _ = server.upload_command(image, answer)
                with open(where / "busy.out", "w+b") as out:
                    server_before, before, start = server.cpu(), jiffies(), time.perf_counter()
                    p = spawn(cmd, stdout=out, stderr=subprocess.STDOUT)
                    sent_at = sent = None
                    while os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                        if sent_at is None and bytes_read(p.pid) >= size:
                            sent_at, sent = time.perf_counter(), jiffies()
                        if time.perf_counter() - start > COMMAND_LIMIT:
                            p.kill()
                        time.sleep(0.01)
                    end, after, server_after = time.perf_counter(), jiffies(), server.cpu()
                    user, sys_ = reap(p)
                    out.seek(0)
                    server.check_answer(out.read().decode(errors="replace"), answer)
            shutil.rmtree(where / "m")
            wall, used = end - start, after - before
            whole = CORES * wall
            shares.append(used.busy / whole)
            servers.append((server_after - server_before) / whole)
            owns.append((server_after - server_before + user + sys_) / whole)
            text = (f"upload {r + 1}: {wall:.2f} s; busy {percent(shares[-1])} = server {percent(servers[-1])}, curl {percent((user + sys_) / whole)}, "
                    f"the rest (kernel threads, other processes) {percent(shares[-1] - owns[-1])}; waiting for the disk {percent(used.iowait / whole)}, stolen {percent(used.steal / whole)}")
            if sent_at is not None:
                bodies.append((sent - before).busy / (CORES * (sent_at - start)))
                text += f"; until the last byte was sent ({sent_at - start:.2f} s): {percent(bodies[-1])}"
            row.raw.append(text)
        row.data.update(busy=shares, busy_until_sent=bodies, server_share=servers, server_and_client_share=owns)
        row.over(f"all {CORES} cores busy during one {size_text(size)} upload", median(shares), 0.85, percent)
