// SPDX-License-Identifier: BSD-2-Clause
//
// events - the status as it changes, to every page that is open, as
// server-sent events.
//
// Who connects gets all of it as "status", later what has changed as "change";
// and always a "beat", so that a page knows that it is told, and the time.
// Who does not read as fast as it comes is left out until it has read, and
// then gets all of it again; who reads nothing for long is disconnected.

import { performance } from 'node:perf_hooks';

const LISTENERS_MAX = 64;
const BUFFERED_MAX = 1 << 20;
const STUCK_MS = 60000;
// A page that hears nothing for three of these says so, see live.mjs.
const BEAT_MS = 3000;

const frame = (event, data) => `event: ${event}\ndata: ${data}\n\n`;

const beat = () => frame('beat', JSON.stringify({ now_ms: Date.now() }));

/** All that a page shows, but the history and maps. */
export function snapshotOf(watcher) {
    return {
        server: serverOf(watcher),
        daemon: daemonOf(watcher),
        store: storeOf(watcher),
        endpoints: watcher.endpoints,
        log: watcher.status.log,
        devices: watcher.devices,
    };
}

const serverOf = (watcher) => ({
    state: watcher.state.code,
    text: watcher.state.text,
    since_ms: Math.round(watcher.clock.toWall(watcher.stateSinceMs)),
});

// The time on the daemon's clock changes each second, and is of no use.
function daemonOf(watcher) {
    const { now_ns: _1, latency_le_ns: _2, ...known } = watcher.status.daemon;
    return known;
}

function storeOf(watcher) {
    if (!watcher.status.store)
        return null;
    const { endpoints: _, ...known } = watcher.status.store;
    return known;
}

// Others write to the disk, too: small changes of it are of no interest, else
// every device would change each second.
function coarse(device) {
    const { disk_total: total, disk_available: available } = device;
    if (!(total > 0) || available === undefined)
        return device;
    return { ...device, disk_available: Math.round(available / total * 1000) };
}

export class Events {
    #watcher;
    #listeners = new Set();
    #parts = new Map(); // the last text of each part
    #devices = new Map(); // and of each device
    #beatMs = -Infinity;
    #onUpdate = () => this.#update();

    constructor(watcher) {
        this.#watcher = watcher;
        watcher.on('update', this.#onUpdate);
    }

    get count() {
        return this.#listeners.size;
    }

    /** Serve one who asks.  Returns false if there are too many. */
    add(response, headers) {
        if (this.#listeners.size >= LISTENERS_MAX)
            return false;
        const listener = { response, isBehind: false, wroteMs: performance.now() };
        response.writeHead(200, {
            ...headers,
            'Content-Type': 'text/event-stream',
            'Cache-Control': 'no-store',
            'X-Accel-Buffering': 'no',
        });
        response.on('close', () => this.#listeners.delete(listener));
        if (this.#listeners.size === 0)
            this.#changes(); // what nobody was told of
        this.#listeners.add(listener);
        this.#sendAll(listener);
        return true;
    }

    close() {
        this.#watcher.off('update', this.#onUpdate);
        for (const { response } of this.#listeners)
            response.end();
        this.#listeners.clear();
    }

    #sendAll(listener) {
        listener.response.write('retry: 2000\n' +
            frame('status', JSON.stringify(snapshotOf(this.#watcher))) + beat());
        listener.isBehind = false;
        listener.wroteMs = performance.now();
    }

    #update() {
        if (this.#listeners.size === 0)
            return;
        const isTime = performance.now() - this.#beatMs >= BEAT_MS;
        if (isTime)
            this.#beatMs = performance.now();
        const text = (isTime ? beat() : '') + this.#changes();
        for (const listener of this.#listeners)
            this.#tell(listener, text);
    }

    #tell(listener, text) {
        const { response } = listener;
        const quietMs = performance.now() - listener.wroteMs;
        if (response.writableLength > BUFFERED_MAX) {
            listener.isBehind = true;
            if (quietMs > STUCK_MS)
                response.destroy();
        } else if (listener.isBehind) {
            if (response.writableLength === 0)
                this.#sendAll(listener);
            else if (quietMs > STUCK_MS)
                response.destroy();
        } else if (text !== '') {
            response.write(text);
            listener.wroteMs = performance.now();
        }
    }

    /** What is different since the last call, as an event; or ''. */
    #changes() {
        const snapshot = snapshotOf(this.#watcher);
        const changes = [];
        for (const part of ['server', 'daemon', 'store', 'endpoints', 'log']) {
            const text = JSON.stringify(snapshot[part]);
            if (this.#parts.get(part) !== text)
                changes.push(`"${part}":${text}`);
            this.#parts.set(part, text);
        }
        const changed = [];
        const names = snapshot.devices.map(({ device }) => device);
        for (const device of snapshot.devices) {
            const key = JSON.stringify(coarse(device));
            if (this.#devices.get(device.device) !== key)
                changed.push(JSON.stringify(device));
            this.#devices.set(device.device, key);
        }
        const order = JSON.stringify(names);
        if (this.#parts.get('order') !== order) {
            changes.push(`"order":${order}`);
            this.#parts.set('order', order);
            for (const name of this.#devices.keys()) {
                if (!names.includes(name))
                    this.#devices.delete(name);
            }
        }
        if (changed.length > 0)
            changes.push(`"devices":[${changed.join(',')}]`);
        return changes.length > 0
            ? frame('change', `{${changes.join(',')}}`) : '';
    }
}
