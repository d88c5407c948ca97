# SPDX-License-Identifier: BSD-2-Clause
"""
programs - the daemon under something like systemd, s3blkdev-sync, and the
store.
"""

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
SUPPORT = os.path.join(ROOT, "tests/support")
DEADLINE_S = 300


class Trouble(Exception):
    """Something that must work did not."""


class Daemon:
    """s3blkdevd as tests/support/service runs it: with its descriptor store,
    its listening socket, and started again when it was killed."""

    def __init__(self, base, command, listen):
        self.base = base
        self.log_path = base + ".log"
        self.pid = None
        self.seen = 0  # bytes of events that were looked at
        self.pauses = []  # seconds from an end to the next readiness
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [os.path.join(SUPPORT, "service"), "--listen", listen,
                 "--on-failure", base, *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.wait_for("ready")

    def wait_for(self, *wanted):
        """Return when these events have come, in this order, since those of
        the last call."""
        deadline = time.monotonic() + DEADLINE_S
        wanted = list(wanted)
        ended_at = None
        while True:
            for moment, event in self.new_events():
                name, number = (event.split() + [""])[:2]
                if name == "ended":
                    ended_at = moment
                if name == "started":
                    self.pid = int(number)
                if name == "stopped" and wanted != ["stopped"]:
                    raise Trouble(f"the daemon ended: see {self.log_path}")
                if event.startswith(wanted[0]):
                    wanted.pop(0)
                if not wanted:
                    if ended_at is not None and name == "ready":
                        self.pauses.append(moment - ended_at)
                    return number
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"the daemon is not {wanted[0]}: see "
                              f"{self.log_path}")
            time.sleep(0.02)

    def new_events(self):
        """Yields time and text of each event that was not looked at."""
        try:
            with open(os.path.join(self.base, "events"),
                      encoding="utf-8") as events:
                events.seek(self.seen)
                text = events.read()
        except FileNotFoundError:
            return
        *lines, _ = text.split("\n")
        for line in lines:
            self.seen += len(line) + 1
            moment, event = line.split(" ", 1)
            yield float(moment), event

    def tell(self, command):
        """Give the service a command."""
        with open(os.path.join(self.base, "control"), "w",
                  encoding="utf-8") as control:
            control.write(command + "\n")

    def kill(self):
        """kill -9; the service starts it again."""
        self.tell("kill")
        self.wait_for("ended", "ready")

    def restart(self):
        """A planned restart."""
        self.tell("restart")
        self.wait_for("ended", "ready")

    def reload(self):
        """Have it read its configuration again."""
        self.tell("reload")
        self.wait_for("notified RELOADING=1", "ready")

    def stop(self):
        """Stop in order."""
        self.tell("stop")
        if self.wait_for("stopped") != "0":
            raise Trouble(f"the daemon did not stop in order: see "
                          f"{self.log_path}")
        self.process.wait()

    def lose(self):
        """The host is lost, and what the service keeps, with it."""
        self.process.kill()
        self.process.wait()
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])  # it is not our child
        os.close(pidfd)

    def end(self):
        """End it, whatever state it is in."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.lose()


class Sync:
    """Runs of s3blkdev-sync with one configuration."""

    def __init__(self, program, config, log_path):
        self.command = [program, "-c", config]
        self.log_path = log_path
        self.codes = {}  # how many runs ended with which exit code

    def start(self, *arguments):
        """Returns the process of a run."""
        with open(self.log_path, "ab") as log:
            return subprocess.Popen(
                [*self.command, *arguments], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)

    def finish(self, process, allowed, timeout_s=3600):
        """Wait for it.  Returns its exit code."""
        code = process.wait(timeout_s)
        self.codes[code] = self.codes.get(code, 0) + 1
        if code not in allowed:
            raise Trouble(f"{' '.join(process.args)} ended with {code}: see "
                          f"{self.log_path}")
        return code

    def run(self, *arguments, allowed=(0,)):
        """A run to its end."""
        return self.finish(self.start(*arguments), allowed)


def ask_status(path):
    """Returns what the status socket says, or None if nobody answers."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(20)
            asking.connect(path)
            asking.sendall(b"status\n")
            with asking.makefile("rb") as answer:
                head = answer.readline().split()
                if head[:1] != [b"ok"] or not head[1].startswith(b"payload="):
                    return None
                return json.loads(answer.read(int(head[1][8:])))
    except (OSError, ValueError, IndexError):
        return None


class Store:
    """tests/support/hostile_s3.mjs, and what it is told to do wrong."""

    ENDPOINTS = 2

    def __init__(self, base, seed):
        os.mkdir(base)
        self.lock = threading.Lock()
        with open(base + ".log", "ab") as log:
            self.process = subprocess.Popen(
                ["node", "--max-old-space-size=6000",
                 os.path.join(SUPPORT, "hostile_s3.mjs"), base,
                 json.dumps({"endpoints": self.ENDPOINTS, "seed": seed})],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                text=True)
        self.ports = json.loads(self.process.stdout.readline())["http"]

    def command(self, **asked):
        """Have a command carried out.  Returns the answer."""
        with self.lock:
            try:
                self.process.stdin.write(json.dumps(asked) + "\n")
                self.process.stdin.flush()
                answer = json.loads(self.process.stdout.readline())
            except (OSError, ValueError):
                raise Trouble("the store ended") from None
        if not answer["ok"]:
            raise Trouble(f"the store: {answer['error']}")
        return answer

    def settings(self):
        """Lines for a configuration."""
        return (["s3host 127.0.0.1"]
                + [f"s3port {port}" for port in self.ports]
                + ["s3ssl 0", "s3accesskey testkey12345",
                   "s3secretkey testsecret0123456789abcdef",
                   "s3bucket bucket", "s3prefix soak/", "s3timeout 2000"])

    def end(self):
        """End it."""
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
