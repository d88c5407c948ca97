# SPDX-License-Identifier: BSD-2-Clause
"""
report - whether a soak stayed below its bounds, and what it says at the end.
"""

import os
import platform
import re
import statistics

import samples
from programs import Trouble
from samples import MIB, most

# What the daemon may have, whatever happens: three devices with 16 MiB of
# plain blocks each, requests of a few clients, and all else.
MEMORY_MAX = 256 * MIB
# Those of the files of chunks, of which all may be open here, of 64 segments
# of each journal, and others.
DESCRIPTORS_MAX = (384 + 256 + 128) + 3 * 64 + 200
# Beside chunks and journals a cache directory has a reserve and the state.
OTHERS_MAX = 64 * MIB
# Of a process that is left alone: by so much may it grow in the last third.
GROWTH, GROWTH_MAX = 1.2, 8 * MIB
WORDS_OF_DAMAGE = re.compile(
    r"damaged|corrupt|fenced|does not verify|Assertion|Sanitizer|"
    r"I/O error|is missing")


def check_bounds(soak):
    """Say Trouble if anything was beyond its bound."""
    taken = soak.samples
    journals = sum(1 for _ in soak.devices) * soak.journal
    caches = sum((device[2] + 1) * MIB for device in soak.devices)
    sizes = sum(device[1] * MIB for device in soak.devices)
    below("memory", most(taken, "rss"), MEMORY_MAX)
    below("descriptors", most(taken, "fds"), DESCRIPTORS_MAX)
    below("journal in use", most(taken, "journal_used"), journals)
    below("journal on disk", most(taken, "journal_disk"),
          journals + MIB * len(soak.devices))
    below("cache in use", most(taken, "cache_used"), caches * 1.05)
    below("state on disk",
          max(s["all_disk"] - s["journal_disk"] - s["chunk_disk"]
              for s in taken), OTHERS_MAX)
    below("bucket", most(taken, "store_bytes"), 4 * sizes)
    check_growth(taken, soak.seconds)
    check_log(soak.path("service.log"))


def below(what, value, bound):
    """Say Trouble if it is not."""
    if value is None:
        raise Trouble(f"{what} was never seen")
    if value > bound:
        raise Trouble(f"{what}: {value:,} is more than {bound:,.0f}")


def check_growth(taken, seconds):
    """A process that nobody restarts stays as large as it is."""
    calm = [s for s in taken if s["at"] > seconds * 2 / 3 and "rss" in s
            and s["pid"] == taken[-1]["pid"]]
    quarter = len(calm) // 4
    if quarter < 3:
        return
    for name in ("rss", "fds", "threads"):
        first = statistics.median(s[name] for s in calm[:quarter])
        last = statistics.median(s[name] for s in calm[-quarter:])
        slack = GROWTH_MAX if name == "rss" else 16
        below(f"{name} at the end", last, first * GROWTH + slack)


def check_log(path):
    """The daemon knows of no damage."""
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            if WORDS_OF_DAMAGE.search(line):
                raise Trouble(f"the daemon says: {line.strip()}")


def errors_of(path):
    """Returns how many lines the daemon has logged, by level."""
    counts = {}
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            found = re.match(r"s3blkdevd: (\w+):", line)
            if found:
                counts[found[1]] = counts.get(found[1], 0) + 1
    return counts


def by_minute(soak):
    """Returns for each minute its samples, and what happened in it."""
    count = int(soak.samples[-1]["at"] // 60) + 1
    minutes, events = [[] for _ in range(count)], [[] for _ in range(count)]
    for taken in soak.samples:
        minutes[int(taken["at"] // 60)].append(taken)
    for at, words in soak.events:
        if at // 60 < count:
            events[int(at // 60)].append(words)
    return minutes, events


def summary(soak):
    """Lines that say what it was, and how it went."""
    last = soak.samples[-1]
    pauses = soak.daemon.pauses
    kernel = ".".join(platform.release().split(".")[:2])
    lines = [
        f"- {soak.seconds / 60:.0f} minutes, seed {soak.options.seed}; "
        f"{os.cpu_count()} processors, Linux {kernel}.",
        "- Devices: " + ", ".join(
            f"`{name}` {size} MiB with a cache of {cache} MiB"
            for name, size, cache, *_ in soak.devices) + ".",
        "- The daemon: " + ", ".join(
            f"{count} × {what}" for what, count in soak.counts.items())
        + (f"; from its end to its readiness at most {max(pauses):.1f} s, "
           f"{statistics.median(pauses):.1f} s in the median." if pauses
           else "."),
        "- The store: " + ", ".join(
            f"{count} × {kind}" for kind, count in sorted(
                soak.kinds.items())) + ".",
        "- s3blkdev-sync, by exit codes: " + ", ".join(
            f"{count} × {'killed' if code < 0 else code}"
            for code, count in sorted(soak.sync.codes.items())) + ".",
        f"- Requests: {last['answered']:,} of the writer; " + ", ".join(
            f"{r.requests:,} by way of {d[0]} in {r.count} rounds, which "
            f"were all verified" for r, d in zip(soak.rounds, soak.devices))
        + "; none failed.",
        f"- Longest wait of a request: {most(soak.samples, 'longest'):.1f} s "
        f"(the store was away, or the daemon).",
        f"- {len(soak.checked)} images were compared with what the writer "
        f"wrote: each was the device as it was at one instant.",
        f"- Most: memory {samples.mib(most(soak.samples, 'rss'))} MiB "
        f"(bound {samples.mib(MEMORY_MAX)}), "
        f"{most(soak.samples, 'fds')} descriptors ({DESCRIPTORS_MAX}), "
        f"journals {samples.mib(most(soak.samples, 'journal_used'))} MiB "
        f"({samples.mib(len(soak.devices) * soak.journal)}), caches "
        f"{samples.mib(most(soak.samples, 'cache_used'))} MiB, bucket "
        f"{samples.mib(most(soak.samples, 'store_bytes'))} MiB.",
        "- Lines in the daemon's log: " + ", ".join(
            f"{count} × {level}" for level, count in sorted(
                errors_of(soak.path("service.log")).items())) + ".",
    ]
    return lines


def write(soak):
    """Say how it went, and write it down.  Returns the exit code."""
    if not soak.samples:
        return 1
    minutes, events = by_minute(soak)
    lines = ["# A day in an hour", "",
             "Made by `make soak` (tests/soak/run, which says what happens "
             "in it).", ""]
    lines += soak.failures or summary(soak)
    lines += ["", "![plot](soak.svg)", "",
              "The largest value of each minute; answers and S3 requests are "
              "counted from the start.", ""]
    lines += samples.table(minutes, events)
    outages = ("all gone", "all mute")
    marks = [(at, "outage" if words in outages else words)
             for at, words in soak.events
             if words in samples.MARKS or words in outages]
    where = (soak.options.report if soak.seconds >= 3600
             and not soak.failures else soak.dir)
    with open(os.path.join(where, "SOAK.md"), "w", encoding="utf-8") as text:
        text.write("\n".join(lines) + "\n")
    with open(os.path.join(where, "soak.svg"), "w", encoding="utf-8") as text:
        text.write(samples.plot(soak.samples, marks, soak.samples[-1]["at"]))
    print("\n".join(lines[4:4 + len(soak.failures or summary(soak))]))
    print(f"{where}/SOAK.md")
    print("soak: " + ("FAILED" if soak.failures else "all is well"))
    return 1 if soak.failures else 0
