# SPDX-License-Identifier: BSD-2-Clause
"""
s3 - how fast the S3 client is: beside wrk and curl on the same server, under
NBD, and beside s3backer on the same bucket.

A part of tests/bench/run.  Whole objects are measured on nginx with its files
in memory, which is fast enough not to be what is measured; all else on Ceph's
radosgw, as tests/support/radosgw starts it.
"""

import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import threading
import time

from bucket import Run, described, fill, status_of, whole_status

MIB = 1 << 20
GIB = 1 << 30
OBJECT = 8 * MIB
OBJECTS = 48
THREADS = 8
SECONDS = 5
RANGE = 16384  # what a cold read of 4 KiB asks for
DELAY_S = 0.030
S3BACKER_SIZE = 256 * MIB
MEMORY = "/dev/shm"
TOOLS = ("nginx", "wrk", "curl", "openssl", "radosgw", "s3backer")

NGINX = """
daemon off; worker_processes 2; pid {base}/nginx.pid; error_log {base}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    client_max_body_size 0; client_body_temp_path {base}/body;
    proxy_temp_path {base}/proxy; fastcgi_temp_path {base}/fastcgi;
    uwsgi_temp_path {base}/uwsgi; scgi_temp_path {base}/scgi;
    server {{
        listen 127.0.0.1:{http}; listen 127.0.0.1:{https} ssl;
        ssl_certificate {base}/cert.pem; ssl_certificate_key {base}/key.pem;
        root {base}/root; merge_slashes off;
        location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
    }}
}}
"""


def free_ports(count):
    """Returns ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            found = stack.enter_context(socket.socket())
            found.bind(("127.0.0.1", 0))
            ports.append(found.getsockname()[1])
        return ports


def wait_for_port(port, process):
    """Return when somebody listens there."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if process.poll() is not None:
                raise SystemExit("bench: nginx ended") from None
            time.sleep(0.01)


@contextlib.contextmanager
def nginx():
    """A server that keeps files in memory: gives its ports and its CA."""
    base = os.path.join(MEMORY, f"s3blkdev-bench-{os.getpid()}")
    for name in ("root", "body"):
        os.makedirs(os.path.join(base, name))
    http, https = free_ports(2)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
         f"{base}/key.pem", "-out", f"{base}/cert.pem"],
        check=True, stderr=subprocess.DEVNULL)
    config = os.path.join(base, "nginx.conf")
    with open(config, "w", encoding="ascii") as file:
        file.write(NGINX.format(base=base, http=http, https=https))
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    process = subprocess.Popen(["nginx", "-p", base, "-c", config, *user],
                               stdin=subprocess.DEVNULL)
    try:
        wait_for_port(http, process)
        yield http, https, os.path.join(base, "cert.pem")
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(base)


class Cost:
    """What the command took that was run inside."""

    def __enter__(self):
        self.before = os.times()
        return self

    def __exit__(self, *_):
        after = os.times()
        self.seconds = after.elapsed - self.before.elapsed
        self.cpu = (after.children_user + after.children_system
                    - self.before.children_user
                    - self.before.children_system)


def ours(bench, mode, server, size, objects, number):
    """Run s3_rate.  Returns what it printed."""
    text = subprocess.run(
        [bench.options.s3_rate, mode, server, str(size), str(objects),
         str(number), str(SECONDS)], check=True,
        stdout=subprocess.PIPE).stdout
    return json.loads(text)


def wrk(url):
    """GETs by wrk.  Returns MB/s and CPU seconds per GiB."""
    script = os.path.join(MEMORY, f"s3blkdev-bench-{os.getpid()}.lua")
    with open(script, "w", encoding="ascii") as file:
        file.write(f"""
local next = 0
request = function()
    next = (next + 1) % {OBJECTS}
    return wrk.format("GET", "/bench/bench/" .. next)
end
done = function(summary)
    io.write(string.format("bytes %d us %d\\n", summary.bytes,
                           summary.duration))
end
""")
    with Cost() as cost:
        text = subprocess.run(
            ["wrk", "-t2", f"-c{THREADS}", f"-d{SECONDS}", "-s", script, url],
            check=True, stdout=subprocess.PIPE).stdout.decode()
    os.unlink(script)
    words = text.split()
    moved = int(words[words.index("bytes") + 1])
    microseconds = int(words[words.index("us") + 1])
    return moved / microseconds, cost.cpu / (moved / GIB)


def curl_puts(url, ca):
    """PUTs by one curl.  Returns MB/s and CPU seconds per GiB."""
    path = os.path.join(MEMORY, f"s3blkdev-bench-{os.getpid()}.object")
    with open(path, "wb") as file:
        file.write(os.urandom(OBJECT))
    uploads = []
    count = OBJECTS * 4
    for number in range(count):
        uploads += ["-T", path, f"{url}/bench/bench/{number % OBJECTS}"]
    with Cost() as cost:
        subprocess.run(
            ["curl", "-sS", "--no-progress-meter", "--parallel", "--parallel-max", str(THREADS),
             "--parallel-immediate", "--http1.1", "-H", "Expect:",
             "-o", "/dev/null", "--cacert", ca, *uploads],
            check=True, stdout=subprocess.DEVNULL)
    os.unlink(path)
    moved = OBJECT * count
    return moved / cost.seconds / 1e6, cost.cpu / (moved / GIB)


def whole_objects(bench):
    """Lines on objects of 8 MiB."""
    with nginx() as (http, https, ca):
        for name, port, trust, url in (
                ("HTTP", http, "", f"http://127.0.0.1:{http}"),
                ("HTTPS", https, ca, f"https://127.0.0.1:{https}")):
            server = f"127.0.0.1,{port},{trust},bench,key,secret"
            for mode in ("put", "get"):
                mine, theirs, my_cost, their_cost = [], [], [], []
                for _ in range(bench.repetitions):
                    result = ours(bench, mode, server, OBJECT, OBJECTS,
                                  THREADS)
                    mine.append(result["mb_s"])
                    my_cost.append(result["cpu_s_per_gib"])
                    rate, cost = wrk(url) if mode == "get" else curl_puts(
                        url, ca)
                    theirs.append(rate)
                    their_cost.append(cost)
                peer = "wrk" if mode == "get" else "curl"
                ratio = statistics.median(mine) / statistics.median(theirs)
                yield (f"- {mode.upper()} of 8 MiB over {name}, {THREADS} "
                       f"connections: {described(mine, 'MB/s')}; {peer}: "
                       f"{described(theirs, 'MB/s')}: {ratio:.2f} of it "
                       f"(aim: 0.9). CPU seconds per GiB: "
                       f"{statistics.median(my_cost):.2f}, {peer}: "
                       f"{statistics.median(their_cost):.2f}.")


# ---- radosgw ----------------------------------------------------------------

class Radosgw:
    """A real S3 server, with a bucket of name bench."""

    def __init__(self, bench):
        self.script = os.path.join(bench.options.root,
                                   "tests/support/radosgw")
        self.dir = os.path.join(bench.directory, f"radosgw-{os.getpid()}")
        self.settings = {}

    def run(self, *arguments):
        """Run the script.  Returns what it printed."""
        return subprocess.run([self.script, *arguments], check=True,
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE).stdout.decode()

    def __enter__(self):
        text = self.run("start", self.dir, "2", str(os.getpid()))
        self.settings = dict(line.split(" ", 1)
                             for line in text.splitlines())
        self.run("bucket", self.dir, "bench")
        return self

    def __exit__(self, *_):
        self.run("stop", self.dir)
        shutil.rmtree(self.dir)

    def port(self):
        """Returns the port of HTTP."""
        return int(self.settings["http"].split()[0])

    def lines(self, port=None, prefix="ours"):
        """Returns the settings of s3blkdevd for it."""
        return ("s3host 127.0.0.1", f"s3port {port or self.port()}",
                "s3ssl 0", "s3bucket bench", f"s3prefix {prefix}",
                f"s3accesskey {self.settings['accesskey']}",
                f"s3secretkey {self.settings['secretkey']}")

    def server(self, port=None):
        """Returns the same for s3_rate."""
        return (f"127.0.0.1,{port or self.port()},,bench,"
                f"{self.settings['accesskey']},{self.settings['secretkey']}")


class FarAway:
    """A line to a port of this host on which every answer is late."""

    def __init__(self, port, delay_s):
        self.target = port
        self.delay_s = delay_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        """Serve whoever comes."""
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(("127.0.0.1", self.target))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.forward, daemon=True,
                             args=(client, server)).start()

    def forward(self, client, server):
        """One request after the other; each answer in one piece or more."""
        # Whoever goes away may do so at any moment.
        with client, server, contextlib.suppress(OSError):
            while True:
                data = client.recv(MIB)
                if not data:
                    return
                asked = time.monotonic()
                server.sendall(data)
                data = server.recv(MIB)
                time.sleep(max(0.0, asked + self.delay_s - time.monotonic()))
                while data:
                    client.sendall(data)
                    try:
                        data = server.recv(MIB, socket.MSG_DONTWAIT)
                    except BlockingIOError:
                        break


def cold_reads(bench, start, gateway):
    """Lines on 4 KiB reads of what is in the bucket only."""
    size = GIB
    far = FarAway(gateway.port(), DELAY_S)
    ours(bench, "put", gateway.server(), OBJECT, OBJECTS, THREADS)
    server = start("s3-cold", size=size, settings=("cachesize 4G",),
                   store=gateway.lines(prefix="cold"))
    fill(bench, server, size)
    Run(bench, server, "3600").wait()
    server.stop()
    for delay, port in ((0, gateway.port()), (DELAY_S, far.port)):
        reads, tails, bare, stores = [], [], [], []
        server = start("s3-cold", size=size, settings=("cachesize 4G",),
                       store=gateway.lines(port=port, prefix="cold"))
        for _ in range(bench.repetitions):
            Run(bench, server, "1", "0").wait()
            server.stop()  # what it had in memory is gone
            server.start()
            # Tables of chunks, which a host that has them keeps.
            bench.fio_json(server, ["--rw=read:8188k", "--bs=4k",
                                    "--iodepth=1", f"--io_size={size >> 11}"],
                           size)
            job = bench.fio_json(server, ["--rw=randread", "--bs=4k",
                                          "--iodepth=1", "--norandommap",
                                          "--io_size=2m"], size)
            reads.append(job["read"]["clat_ns"]["mean"] / 1e3)
            tails.append(job["read"]["clat_ns"]["percentile"]["99.000000"]
                         / 1e3)
            bare.append(ours(bench, "bare", gateway.server(port), OBJECT,
                             OBJECTS, RANGE)["mean_us"])
            stores.append(ours(bench, "range", gateway.server(port), OBJECT,
                               OBJECTS, RANGE)["mean_us"])
        server.stop()
        ratio = statistics.median(reads) / statistics.median(bare)
        aim = "1.03" if delay else "1.2"
        yield (f"- Cold 4 KiB random read through NBD, one at a time, "
               f"{1e3 * delay:.0f} ms added to each answer: mean "
               f"{described(reads, 'µs')}, 99th percentile "
               f"{described(tails, 'µs')}; a bare signed GET of {RANGE} bytes "
               f"on a kept connection: {described(bare, 'µs')}; the same by "
               f"the store: {described(stores, 'µs')}. Ratio {ratio:.2f} "
               f"(aim: {aim}).")


# ---- one of two endpoints ---------------------------------------------------

PHASE_S = 4  # well; then ill; then well again
TENTHS = 10 * PHASE_S


def traced(bench, server, make_ill, make_well):
    """Read by two endpoints, one of which is ill for a while.  Returns what
    was done in each tenth of a second."""
    process = subprocess.Popen(
        [bench.options.s3_rate, "trace", server, str(OBJECT), str(OBJECTS),
         str(RANGE), str(3 * PHASE_S)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    begin = time.monotonic()
    for number, change in ((1, make_ill), (2, make_well)):
        time.sleep(max(0, begin + number * PHASE_S - time.monotonic()))
        change()
    text = process.stdout.read()
    if process.wait() != 0:
        raise SystemExit("bench: s3_rate failed")
    return json.loads(text)


def rate_of(tenths):
    """Returns requests a second."""
    return 10 * sum(count for tenth in tenths
                    for _, count in tenth) / len(tenths)


def tail_of(tenths):
    """Returns the 99th percentile of all, in microseconds, to a quarter."""
    counts = {}
    for tenth in tenths:
        for microseconds, count in tenth:
            counts[microseconds] = counts.get(microseconds, 0) + count
    left = 0.01 * sum(counts.values())
    for microseconds in sorted(counts, reverse=True):
        left -= counts[microseconds]
        if left < 0:
            return microseconds
    return float("inf")


def full_speed_after(tenths, normal):
    """Returns after how many seconds four tenths in a row had 0.9 of it."""
    for index in range(len(tenths) - 3):
        if rate_of(tenths[index:index + 4]) >= 0.9 * normal:
            return index / 10
    return float("inf")


def one_of_two(bench, gateway):
    """Lines on two endpoints of which one is gone, hangs, or is slow."""
    http = [int(port) for port in gateway.settings["http"].split()]
    far = FarAway(http[1], 0)

    def gateway_two(*actions):
        return lambda: [gateway.run("gateway", gateway.dir, "2", action)
                        for action in actions]

    def be_late(seconds):
        def change():
            far.delay_s = seconds
        return change

    bare = ours(bench, "range", gateway.server(), OBJECT, OBJECTS, RANGE)
    late_s = 100 * bare["mean_us"] / 1e6
    for name, port, make_ill, make_well in (
            ("killed", http[1], gateway_two("kill"), gateway_two("start")),
            ("stopped", http[1], gateway_two("pause"), gateway_two("resume")),
            (f"100 times slower ({1e3 * late_s:.0f} ms)", far.port,
             be_late(late_s), be_late(0))):
        tenths = traced(bench, gateway.server(f"{http[0]}+{port}"), make_ill,
                        make_well)
        normal, ill, again = (tenths[:TENTHS], tenths[TENTHS:2 * TENTHS],
                              tenths[2 * TENTHS:])
        before = rate_of(normal[5:])
        yield (f"- One of two endpoints {name} for {PHASE_S} s, eight reads "
               f"of {RANGE} bytes at a time: {before:,.0f} → "
               f"{rate_of(ill):,.0f} → {rate_of(again):,.0f} reads/s, "
               f"{rate_of(ill) / before:.2f} of normal (aim: 0.4); 99th "
               f"percentile {tail_of(normal[5:]):,.0f} → {tail_of(ill):,.0f} "
               f"µs, {tail_of(ill) / tail_of(normal[5:]):.1f} × (aim: 3); "
               f"0.9 of normal speed {full_speed_after(again, before):.1f} s "
               f"after its return (aim: 2 s).")


# ---- beside s3backer --------------------------------------------------------

class S3backer:
    """s3backer, mounted, with all of its blocks in its cache at most."""

    def __init__(self, bench, gateway, block):
        self.base = os.path.join(bench.directory, f"s3backer-{block}")
        self.mount = os.path.join(self.base, "mount")
        self.command = [
            "s3backer", "-f", f"--baseURL=http://127.0.0.1:{gateway.port()}/",
            f"--accessId={gateway.settings['accesskey']}",
            f"--accessKey={gateway.settings['secretkey']}",
            f"--blockSize={block}", f"--size={S3BACKER_SIZE}",
            f"--prefix=s3backer-{block}-", "--quiet", "--force",
            f"--blockCacheSize={S3BACKER_SIZE // size_of(block)}",
            "--directIO", "bench", self.mount]
        self.process = None

    def start(self):
        """Mount it."""
        os.makedirs(self.mount, exist_ok=True)
        self.process = subprocess.Popen(
            [*self.command[:-2], "--listBlocks", *self.command[-2:]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        while not os.path.exists(os.path.join(self.mount, "file")):
            if self.process.poll() is not None:
                raise SystemExit("bench: s3backer ended: "
                                 + " ".join(self.command))
            time.sleep(0.02)

    def stop(self):
        """Unmount it, which writes back what it has."""
        subprocess.run(["fusermount3", "-u", self.mount], check=True)
        self.process.wait()

    def counts(self):
        """Returns requests and bytes sent so far."""
        with open(os.path.join(self.mount, "stats"),
                  encoding="ascii") as file:
            values = dict(line.split() for line in file
                          if len(line.split()) == 2)
        requests = sum(int(values.get(f"http_{name}", "0"))
                       for name in ("normal_blocks_read", "zero_blocks_read",
                                    "normal_blocks_written",
                                    "zero_blocks_written"))
        return requests, int(values["http_normal_blocks_written"])

    def fio(self, arguments):
        """Run fio on its file.  Returns what it says of its job."""
        text = subprocess.run(
            ["fio", "--name=bench", "--ioengine=libaio", "--direct=1",
             f"--filename={self.mount}/file", f"--size={S3BACKER_SIZE}",
             "--output-format=json", "--buffer_compress_percentage=50",
             "--randrepeat=0", *arguments], check=True,
            stdout=subprocess.PIPE).stdout.decode()
        return json.loads(text[text.index("{"):])["jobs"][0]


def size_of(text):
    """Returns the bytes that 128k or 1M are."""
    return int(text[:-1]) << {"k": 10, "M": 20}[text[-1]]


JOBS = (
    ("write in a row, 1 MiB, then flush", "write",
     ["--rw=write", "--bs=1m", "--iodepth=4", "--end_fsync=1"]),
    ("cold read in a row, 1 MiB", "read",
     ["--rw=read", "--bs=1m", "--iodepth=4"]),
    ("cold 4 KiB random read, queue depth 8", "read",
     ["--rw=randread", "--bs=4k", "--iodepth=8", "--time_based",
      "--runtime=5"]),
    ("hot 4 KiB random read, queue depth 8", "read",
     ["--rw=randread", "--bs=4k", "--iodepth=8", "--time_based",
      "--runtime=3"]),
    ("hot 4 KiB random write, queue depth 8", "write",
     ["--rw=randwrite", "--bs=4k", "--iodepth=8", "--time_based",
      "--runtime=3"]),
)


def figure(job, kind):
    """Returns MB/s and IOPS as text."""
    of = job[kind]
    return f"{of['bw_bytes'] / 1e6:,.0f} MB/s, {of['iops']:,.0f} IOPS"


def run_s3backer(bench, gateway, block):
    """Returns a text for each job, and one on the requests."""
    peer = S3backer(bench, gateway, block)
    texts = []
    requests = written = 0
    peer.start()
    for name, kind, arguments in JOBS:
        if "cold" in name:
            peer.stop()  # its cache is in memory
            peer.start()
        elif "hot" in name:
            peer.fio(["--rw=read", "--bs=1m", "--iodepth=4"])
        texts.append(figure(peer.fio(arguments), kind))
        if name == JOBS[0][0]:
            requests, written = peer.counts()
    before = peer.counts()
    peer.stop()
    texts.append(f"{requests} requests, {written} blocks of {block} sent for "
                 f"the first line; {before[1]} blocks in all since the last "
                 f"mount, before it was unmounted")
    shutil.rmtree(peer.base)
    return texts


def run_ours(bench, start, gateway):
    """The same for a device."""
    size = S3BACKER_SIZE
    server = start("s3-beside", size=size, settings=("cachesize 1G",),
                   general=("workers 16", "fetchers 16"),
                   store=gateway.lines(prefix="beside"))
    texts = []
    for name, kind, arguments in JOBS:
        if "cold" in name:
            Run(bench, server, "1", "0").wait()
            server.stop()
            server.start()
        elif "hot" in name:
            bench.fio_json(server, ["--rw=read", "--bs=1m", "--iodepth=4"],
                           size)
        texts.append(figure(bench.fio_json(server, arguments, size), kind))
        if name == JOBS[0][0]:
            run = Run(bench, server, "3600").wait()
            status = status_of(bench, server)
            sent = (f"{status['uploaded'] / MIB:.0f} MiB of objects in "
                    f"{run.seconds:.1f} s by the s3blkdev-sync after the "
                    f"first line")
    before = status_of(bench, server)["uploaded"]
    Run(bench, server, "3600").wait()
    status = whole_status(bench, server)
    uploaded = status["devices"][0]["uploaded"] - before
    requests = sum(one["requests"] for one in status["store"]["endpoints"])
    texts.append(f"{sent}; {uploaded / MIB:.0f} MiB by that after the last; "
                 f"the daemon's own requests since its last start: {requests}")
    server.stop()
    return texts


def beside_s3backer(bench, start, gateway):
    """A table: the same jobs on both."""
    columns = [("s3blkdevd", run_ours(bench, start, gateway))]
    for block in ("128k", "1M"):
        columns.append((f"s3backer, {block}",
                        run_s3backer(bench, gateway, block)))
    yield ""
    yield "| " + " | ".join(["job", *(name for name, _ in columns)]) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for index, name in enumerate([job[0] for job in JOBS] + ["sent"]):
        yield "| " + " | ".join([name, *(texts[index]
                                         for _, texts in columns)]) + " |"


def figures(bench, start):
    """Yields lines for the document; start() as for bucket.figures, with
    store=, the lines of the configuration that name the bucket."""
    yield from whole_objects(bench)
    with Radosgw(bench) as gateway:
        yield from cold_reads(bench, start, gateway)
        yield from one_of_two(bench, gateway)
        if os.geteuid() == 0 and os.path.exists("/dev/fuse"):
            yield from beside_s3backer(bench, start, gateway)
        else:
            yield "- s3backer: not measured, needs root and /dev/fuse."
