// SPDX-License-Identifier: BSD-2-Clause
//
// watcher - asks the daemon every second, and keeps what the page is to show:
// the last status, what follows from it, and the history.
//
// While the daemon does not answer the last status stays, marked as old, and
// is asked for again every second.  Emits "update" after each answer or lack
// of one.

import { EventEmitter } from 'node:events';

import { Clock } from './clock.mjs';
import { healthOf } from './health.mjs';
import { History, SERIES, endpointName, valueOf } from './history.mjs';
import { cleanStatus } from './status.mjs';
import { StatusError, ask } from './status_client.mjs';

const EMPTY = { daemon: {}, store: null, log: [], devices: [] };
// How much of an upload's pace is what it was before, each second.
const PACE_INERTIA = 0.95;
// What would take longer does not go on.
const LEFT_MAX_S = 30 * 86400;
// So long it is told that requests of clients failed, after the last one did.
const FAILURES_TOLD_MS = 10 * 60e3;

/** Answers to clients that were errors, but not by their own fault. */
function failuresOf({ errors_io: io = 0, errors_space: space = 0 } = {}) {
    return io + space;
}

export class Watcher extends EventEmitter {
    #path;
    #intervalMs;
    #ask;
    #timer = null;
    #isStopped = false;
    #before = null; // {timeMs, status} of the answer before
    #paces = new Map(); // device → bytes and chunks a second
    #failures = new Map(); // device → {count, lastMs} of requests that failed

    clock;
    history = new History();
    status = EMPTY; // the last answer, cleaned
    state = { code: 'starting', text: 'the daemon has not been asked yet' };
    stateSinceMs; // these times are those of the clock, not since 1970
    answeredMs = null; // when the last answer came
    devices = []; // what the page shows of each
    endpoints = [];

    constructor(path, {
        intervalMs = 1000, askFor = ask, clock = new Clock(),
    } = {}) {
        super();
        this.setMaxListeners(0);
        this.#path = path;
        this.#intervalMs = intervalMs;
        this.#ask = askFor;
        this.clock = clock;
        this.stateSinceMs = clock.now();
    }

    start() {
        void this.#run();
    }

    stop() {
        this.#isStopped = true;
        clearTimeout(this.#timer);
    }

    get isUp() {
        return this.state.code === 'up';
    }

    async #run() {
        const beganMs = this.clock.now();
        await this.look();
        if (this.#isStopped)
            return;
        const leftMs = this.#intervalMs - (this.clock.now() - beganMs);
        this.#timer = setTimeout(() => void this.#run(), Math.max(0, leftMs));
    }

    /** Ask once. */
    async look() {
        try {
            const status = cleanStatus(await this.#ask(this.#path, 'status'));
            this.#take(this.clock.now(), status);
            this.#setState('up', 'the daemon answers');
        } catch (error) {
            if (!(error instanceof StatusError))
                throw error;
            this.#before = null;
            this.#setState(error.code, error.message);
        }
        this.#describe();
        this.emit('update');
    }

    #setState(code, text) {
        if (code !== this.state.code)
            this.stateSinceMs = this.clock.now();
        this.state = { code, text };
    }

    #take(timeMs, status) {
        const instance = status.daemon.start_time_ns ?? 0;
        if (this.#before &&
            (this.status.daemon.start_time_ns ?? 0) !== instance)
            this.#before = null;
        this.history.add(timeMs, status);
        this.#noteFailures(timeMs, status);
        this.rates = this.#before
            ? ratesBetween(this.#before.status, status,
                (timeMs - this.#before.timeMs) / 1000)
            : { devices: new Map(), endpoints: new Map() };
        this.#before = { timeMs, status };
        this.status = status;
        this.answeredMs = timeMs;
    }

    #noteFailures(timeMs, status) {
        const isSame = this.answeredMs !== null &&
            this.status.daemon.start_time_ns === status.daemon.start_time_ns;
        const before = new Map(isSame
            ? this.status.devices.map((device) => [device.device, device]) : []);
        const failures = new Map();
        for (const device of this.answeredMs === null ? [] : status.devices) {
            const name = device.device;
            const { count, lastMs } = this.#failures.get(name) ??
                { count: 0, lastMs: -Infinity };
            const more = failuresOf(device) - failuresOf(before.get(name));
            if (more > 0)
                failures.set(name, { count: count + more, lastMs: timeMs });
            else if (timeMs - lastMs < FAILURES_TOLD_MS)
                failures.set(name, { count, lastMs });
        }
        this.#failures = failures;
    }

    rates = { devices: new Map(), endpoints: new Map() };

    #describe() {
        const { status } = this;
        if (!this.isUp)
            this.rates = { devices: new Map(), endpoints: new Map() };
        this.devices = status.devices.map((device) => {
            const rates = this.rates.devices.get(device.device) ?? {};
            return {
                ...withoutHistograms(device),
                health: healthOf(device, status, this.isUp,
                    this.#failures.get(device.device)?.count ?? 0),
                rates,
                upload: this.#uploadOf(device, rates),
            };
        });
        this.endpoints = (status.store?.endpoints ?? []).map((endpoint) => {
            const name = endpointName(endpoint);
            const { latency_buckets: _, ...known } = endpoint;
            return {
                name, ...known, rates: this.rates.endpoints.get(name) ?? {},
            };
        });
        for (const name of this.#paces.keys()) {
            if (!status.devices.some(({ device }) => device === name))
                this.#paces.delete(name);
        }
    }

    /** What is left of the open checkpoint, and for how long. */
    #uploadOf(device, rates) {
        if (device.checkpoint !== 'open') {
            this.#paces.delete(device.device);
            return null;
        }
        const done = (device.checkpoint_chunks ?? 0) - (device.checkpoint_left ?? 0);
        let pace = this.#paces.get(device.device);
        if (!pace || rates.chunks === undefined)
            pace = pace ?? { chunks: rates.chunks ?? null };
        else
            pace = {
                chunks: pace.chunks === null ? rates.chunks
                    : pace.chunks * PACE_INERTIA + rates.chunks * (1 - PACE_INERTIA),
            };
        this.#paces.set(device.device, pace);
        return {
            chunks: device.checkpoint_chunks ?? 0,
            done: Math.max(0, done),
            left: device.checkpoint_left ?? 0,
            left_bytes: device.checkpoint_bytes ?? 0,
            left_s: timeLeft(device.checkpoint_left ?? 0, pace.chunks),
        };
    }
}

function timeLeft(chunks, pace) {
    const seconds = pace > 0 ? Math.round(chunks / pace) : Infinity;
    return seconds <= LEFT_MAX_S ? seconds : null;
}

function withoutHistograms(device) {
    const {
        read_latency: _1, write_latency: _2, flush_latency: _3, ...known
    } = device;
    return known;
}

/** What happened a second, between two answers of one daemon. */
function ratesBetween(before, now, seconds) {
    const ends = now.daemon.latency_le_ns;
    const of = (kind, earlier, later) => Object.fromEntries(
        Object.entries(SERIES[kind])
            .filter(([, series]) => series.kind !== 'gauge')
            .map(([name, series]) =>
                [name, valueOf(series, earlier, later, seconds, ends)])
            .filter(([, value]) => !Number.isNaN(value))
            .map(([name, value]) => [name, Number(value.toPrecision(4))]));
    const devices = new Map();
    const endpoints = new Map();
    const devicesBefore = new Map(before.devices.map((d) => [d.device, d]));
    for (const device of now.devices) {
        const earlier = devicesBefore.get(device.device);
        if (!earlier)
            continue;
        const rates = of('device', earlier, device);
        const chunks = valueOf({ key: 'uploaded_chunks', kind: 'rate' },
            earlier, device, seconds);
        if (!Number.isNaN(chunks))
            rates.chunks = chunks;
        devices.set(device.device, rates);
    }
    const endpointsBefore = new Map(
        (before.store?.endpoints ?? []).map((e) => [endpointName(e), e]));
    for (const endpoint of now.store?.endpoints ?? []) {
        const earlier = endpointsBefore.get(endpointName(endpoint));
        if (earlier)
            endpoints.set(endpointName(endpoint),
                of('endpoint', earlier, endpoint));
    }
    return { devices, endpoints };
}
