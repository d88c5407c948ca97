// SPDX-License-Identifier: BSD-2-Clause
//
// history - what was, at two resolutions: the last hour finely, the last day
// coarsely.
//
// For each subject (a device, an endpoint) a ring of numbers for each series.
// A point is about the time since the one before: rates and percentiles come
// from the counters' differences, gauges are as they are now.  Where nothing
// was known (the daemon was down, or began anew) there is a gap.  All times are
// those of a steady clock, see clock.mjs.

import { percentile, since } from './latency.mjs';

export const RANGES = {
    hour: { stepMs: 5000, points: 720 },
    day: { stepMs: 60000, points: 1440 },
};
const SUBJECTS_MAX = 1100;

const rate = (key) => ({ key, kind: 'rate' });
const gauge = (key) => ({ key, kind: 'gauge' });
const share = (key, of) => ({ key, kind: 'percentile', of });

// The series of a kind of subject: how each is made of what the status has.
export const SERIES = {
    device: {
        read_iops: rate('read_requests'),
        write_iops: rate('write_requests'),
        flush_iops: rate('flush_requests'),
        read_bytes: rate('read_bytes'),
        written_bytes: rate('written_bytes'),
        read_p50: share('read_latency', 0.5),
        read_p99: share('read_latency', 0.99),
        write_p50: share('write_latency', 0.5),
        write_p99: share('write_latency', 0.99),
        flush_p50: share('flush_latency', 0.5),
        flush_p99: share('flush_latency', 0.99),
        uploaded: rate('uploaded'),
        fetched: rate('fetched'),
        cache_used: gauge('cache_used'),
        dirty_bytes: gauge('dirty_bytes'),
    },
    endpoint: {
        bytes_up: rate('bytes_up'),
        bytes_down: rate('bytes_down'),
        requests: rate('requests'),
        errors: rate('errors'),
        latency_p50: { key: 'latency_p50_ns', kind: 'nanoseconds' },
        latency_p99: { key: 'latency_p99_ns', kind: 'nanoseconds' },
    },
};

/** The value of a series between two states of its subject; NaN: unknown. */
export function valueOf({ key, kind, of }, before, now, seconds, ends) {
    const value = now[key];
    if (kind === 'nanoseconds')
        return value > 0 ? value / 1e9 : NaN;
    if (kind === 'gauge')
        return value ?? NaN;
    if (value === undefined || before?.[key] === undefined || seconds <= 0)
        return NaN;
    if (kind === 'rate')
        return value >= before[key] ? (value - before[key]) / seconds : NaN;
    const counts = since(before[key], value);
    return (counts && ends ? percentile(counts, ends, of) : null) ?? NaN;
}

class Rings {
    constructor(names, points) {
        this.values = new Map(
            names.map((name) => [name, new Float32Array(points).fill(NaN)]));
    }

    set(at, name, value) {
        this.values.get(name)[at] = value;
    }

    clear(at) {
        for (const ring of this.values.values())
            ring[at] = NaN;
    }
}

/** All subjects at one resolution. */
class Range {
    #stepMs;
    #points;
    #subjects = new Map(); // key → {kind, rings, before, seen}
    #slot = -1; // the newest, counted since 1970
    #first = -1; // the oldest that was ever recorded
    #beforeMs = 0;
    #instance = null;

    constructor({ stepMs, points }) {
        this.#stepMs = stepMs;
        this.#points = points;
    }

    /** states: [key, kind, state] of each subject. */
    add(timeMs, instance, states, ends) {
        const slot = Math.floor(timeMs / this.#stepMs);
        const slotBefore = this.#slot;
        if (slot <= slotBefore)
            return;
        this.#advance(slot);
        const seconds = (timeMs - this.#beforeMs) / 1000;
        // After a gap a rate would be an average of what nobody saw.
        const goesOn = instance === this.#instance &&
            seconds < 3 * this.#stepMs / 1000;
        for (const [key, kind, state] of states)
            this.#addOne(slot, key, kind, state,
                goesOn && this.#subjects.get(key)?.seen === slotBefore
                    ? seconds : 0, ends);
        this.#beforeMs = timeMs;
        this.#instance = instance;
    }

    /** Make room for the slot, with gaps for those that were left out. */
    #advance(slot) {
        const from = Math.max(this.#slot + 1, slot - this.#points + 1);
        for (let at = from; at <= slot; at++) {
            for (const { rings } of this.#subjects.values())
                rings.clear(at % this.#points);
        }
        this.#slot = slot;
        if (this.#first < 0)
            this.#first = slot;
        for (const [key, { seen }] of this.#subjects) {
            if (slot - seen >= this.#points)
                this.#subjects.delete(key);
        }
    }

    #addOne(slot, key, kind, state, seconds, ends) {
        let subject = this.#subjects.get(key);
        if (!subject) {
            if (this.#subjects.size >= SUBJECTS_MAX)
                return;
            subject = {
                kind,
                rings: new Rings(Object.keys(SERIES[kind]), this.#points),
                before: null,
                seen: slot,
            };
            this.#subjects.set(key, subject);
        }
        for (const [name, series] of Object.entries(SERIES[kind]))
            subject.rings.set(slot % this.#points, name,
                valueOf(series, subject.before, state, seconds, ends));
        subject.before = state;
        subject.seen = slot;
    }

    /**
     * {step_ms, times, series}: null where nothing is known; shiftMs makes
     * times since 1970 of those that were recorded.
     */
    get(key, shiftMs) {
        const subject = this.#subjects.get(key);
        if (!subject)
            return null;
        const begin = Math.max(this.#first, this.#slot - this.#points + 1);
        const slots = Array.from({ length: this.#slot - begin + 1 },
            (_, index) => begin + index);
        const series = {};
        for (const [name, ring] of subject.rings.values) {
            series[name] = slots.map((slot) => {
                const value = ring[slot % this.#points];
                return Number.isNaN(value) ? null : Number(value.toPrecision(4));
            });
        }
        return {
            step_ms: this.#stepMs,
            times: slots.map((slot) =>
                Math.round((slot * this.#stepMs + shiftMs) / 100) / 10),
            series,
        };
    }
}

export class History {
    #ranges = new Map(Object.entries(RANGES).map(
        ([name, range]) => [name, new Range(range)]));

    /** Record a status that was asked for at that time. */
    add(timeMs, status) {
        const states = [
            ...status.devices.map((device) =>
                [`device ${device.device}`, 'device', device]),
            ...(status.store?.endpoints ?? []).map((endpoint) =>
                [`endpoint ${endpointName(endpoint)}`, 'endpoint', endpoint]),
        ];
        const instance = status.daemon.start_time_ns ?? 0;
        for (const range of this.#ranges.values())
            range.add(timeMs, instance, states, status.daemon.latency_le_ns);
    }

    /** kind: device or endpoint; null: nothing is known of it. */
    get(range, kind, name, shiftMs = 0) {
        return this.#ranges.get(range)?.get(`${kind} ${name}`, shiftMs) ?? null;
    }
}

/** What an endpoint is called. */
export function endpointName({ host, port }) {
    return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
