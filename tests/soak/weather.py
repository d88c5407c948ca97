# SPDX-License-Identifier: BSD-2-Clause
"""
weather - what goes wrong between us and the store, and for how long.
"""

OFTEN = {"count": -1}

# A name, faults of requests, the states of the endpoints (or "up").
KINDS = [
    ("fair", [], None),
    ("errors", [{**OFTEN, "chance": 0.1, "status": 500,
                 "code": "InternalError"},
                {**OFTEN, "chance": 0.05, "status": 503, "code": "SlowDown",
                 "headers": {"Retry-After": "1"}}], None),
    ("resets", [{**OFTEN, "chance": 0.1, "drop": "rst"},
                {**OFTEN, "op": "get", "chance": 0.1, "cut_body": 100,
                 "end": "fin"}], None),
    ("answers lost", [{**OFTEN, "op": "put", "chance": 0.2, "apply": True,
                       "drop": "rst"},
                      {**OFTEN, "op": "delete_many", "chance": 0.3,
                       "apply": True, "drop": "fin"}], None),
    ("slow", [{**OFTEN, "chance": 0.5, "delay_ms": 400}], None),
    ("silent", [{**OFTEN, "chance": 0.1, "silence": True}], None),
    ("one mute", [], ["mute", "up"]),
    ("one gone", [], ["up", "down"]),
    ("one resets", [], ["reset", "up"]),
    ("all gone", [], ["down", "down"]),
    ("all mute", [], ["mute", "mute"]),
]
OUTAGES = {"all gone", "all mute"}


def choose(random):
    """Returns a kind, and for how many seconds."""
    kind = random.choice(KINDS)
    return kind, random.uniform(5, 20 if kind[0] in OUTAGES else 45)


def become(store, kind):
    """Make it so."""
    _, faults, states = kind
    store.command(clear=True)
    for number in range(store.ENDPOINTS):
        store.command(endpoint=number, state=states[number] if states else "up")
    for fault in faults:
        store.command(fault=fault)
