# SPDX-License-Identifier: BSD-2-Clause
"""
samples - what the soak looks at while it runs, and how that is shown: a table
of minutes, and a plot.
"""

import os

from programs import ask_status

MIB = 1 << 20


class Gone(Exception):
    """The process ended while we looked at it."""


def process_of(pid):
    """Returns memory, threads and descriptors of a process."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            fields = dict(line.split(":", 1) for line in status)
        return {"rss": int(fields["VmRSS"].split()[0]) * 1024,
                "threads": int(fields["Threads"]),
                "fds": len(os.listdir(f"/proc/{pid}/fd"))}
    except (OSError, KeyError):
        raise Gone from None


def disk_use(directory):
    """Returns the bytes that the files below a directory take on disk."""
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def sample(pid, status_path, devices, store, writer):
    """Returns what is now; what the daemon tells only if it answers."""
    found = {"pid": pid}
    try:
        found.update(process_of(pid))
    except Gone:
        pass
    status = ask_status(status_path)
    if status:
        of = status["devices"]
        for name in ("journal_used", "cache_used", "dirty_bytes", "requests",
                     "parked", "uploaded", "evicted", "fetched", "damaged",
                     "alarms"):
            found[name] = sum(device.get(name, 0) for device in of)
        found["unpublished_ns"] = min(
            (device["oldest_unpublished_ns"] for device in of
             if "oldest_unpublished_ns" in device), default=None)
    found["journal_disk"] = sum(disk_use(os.path.join(directory, "journal"))
                                for directory in devices)
    found["chunk_disk"] = sum(disk_use(os.path.join(directory, "chunk"))
                              for directory in devices)
    found["all_disk"] = sum(disk_use(directory) for directory in devices)
    usage = store.command(usage=True)
    found["store_bytes"], found["objects"] = usage["bytes"], usage["objects"]
    found["store_requests"] = sum(
        count for name, count in store.command(counters=True).items()
        if name in ("get", "put", "head", "list", "delete", "delete_many"))
    found.update(writer.ask("sample"))
    return found


def most(samples, name):
    """Returns the largest value, or None."""
    return max((s[name] for s in samples if s.get(name) is not None),
               default=None)


def mib(value):
    """Returns a number of MiB in words."""
    return "–" if value is None else f"{value / MIB:,.0f}"


COLUMNS = [
    ("minute", lambda m, s: str(m)),
    ("memory, MiB", lambda m, s: mib(most(s, "rss"))),
    ("descriptors", lambda m, s: str(most(s, "fds") or "–")),
    ("threads", lambda m, s: str(most(s, "threads") or "–")),
    ("journal, MiB", lambda m, s: mib(most(s, "journal_used"))),
    ("cache, MiB", lambda m, s: mib(most(s, "cache_used"))),
    ("dirty, MiB", lambda m, s: mib(most(s, "dirty_bytes"))),
    ("bucket, MiB", lambda m, s: mib(most(s, "store_bytes"))),
    ("S3 requests", lambda m, s: f"{most(s, 'store_requests') or 0:,}"),
    ("answers", lambda m, s: f"{most(s, 'answered') or 0:,}"),
    ("longest wait, s", lambda m, s: f"{most(s, 'longest') or 0:.1f}"),
]


def table(minutes, events):
    """Lines of a table: minutes is a list of lists of samples, events one of
    lists of words."""
    names = [name for name, _ in COLUMNS]
    lines = ["| " + " | ".join(names + ["what happened"]) + " |",
             "|" + "--:|" * len(names) + "---|"]
    for number, samples in enumerate(minutes):
        cells = [show(number, samples) for _, show in COLUMNS]
        lines.append("| " + " | ".join(cells + [told(events[number])]) + " |")
    return lines


def told(words):
    """Returns words with how often each of them comes."""
    return ", ".join(
        word if words.count(word) == 1 else f"{words.count(word)} × {word}"
        for word in dict.fromkeys(words))


# ---- the plot ---------------------------------------------------------------

WIDTH, HEIGHT, LEFT, GAP = 900, 110, 70, 34
CURVES = [
    ("memory of the daemon, MiB", "rss", MIB),
    ("descriptors of the daemon", "fds", 1),
    ("journals in use, MiB", "journal_used", MIB),
    ("caches in use, MiB", "cache_used", MIB),
    ("not in the bucket, MiB", "dirty_bytes", MIB),
    ("objects in the bucket, MiB", "store_bytes", MIB),
    ("longest wait for an answer, s", "longest", 1),
]
MARKS = {"kill -9": "#c62828", "restart": "#1565c0", "reload": "#2e7d32",
         "outage": "#f9a825"}


def nice_above(value):
    """Returns a round number that is not less."""
    step = 1.0
    while step < value:
        for factor in (2, 2.5, 2):
            if step >= value:
                break
            step *= factor
    return step


def plot(samples, marks, seconds):
    """Returns an SVG: samples have a time "at", marks are (at, kind)."""
    height = len(CURVES) * (HEIGHT + GAP) + GAP
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} '
           f'{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for index, (kind, colour) in enumerate(MARKS.items()):
        x = LEFT + 120 * index
        out.append(f'<rect x="{x}" y="8" width="10" height="10" '
                   f'fill="{colour}"/><text x="{x + 15}" y="17">{kind}</text>')

    def across(at):
        return LEFT + (WIDTH - LEFT - 10) * min(at / seconds, 1)

    for index, (title, name, unit) in enumerate(CURVES):
        top = GAP + index * (HEIGHT + GAP) + 10
        values = [(s["at"], s[name] / unit) for s in samples
                  if s.get(name) is not None]
        above = nice_above(max([v for _, v in values], default=1) or 1)
        out.append(f'<text x="{LEFT}" y="{top - 4}">{title}</text>')
        for at, kind in marks:
            out.append(f'<line x1="{across(at):.1f}" x2="{across(at):.1f}" '
                       f'y1="{top}" y2="{top + HEIGHT}" '
                       f'stroke="{MARKS[kind]}" stroke-opacity="0.5"/>')
        for part in (0, 0.5, 1):
            y = top + HEIGHT * (1 - part)
            out.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y}" '
                       f'y2="{y}" stroke="#dddddd"/><text x="{LEFT - 6}" '
                       f'y="{y + 4}" text-anchor="end">{above * part:g}'
                       f'</text>')
        points = " ".join(f"{across(at):.1f},"
                          f"{top + HEIGHT * (1 - value / above):.1f}"
                          for at, value in values)
        out.append(f'<polyline points="{points}" fill="none" '
                   f'stroke="#222222" stroke-width="1.2"/>')
    for minute in range(0, int(seconds / 60) + 1, max(int(seconds / 600), 1)):
        out.append(f'<text x="{across(60 * minute):.1f}" y="{height - 8}" '
                   f'text-anchor="middle">{minute} min</text>')
    return "\n".join(out + ["</svg>", ""])
