// SPDX-License-Identifier: BSD-2-Clause
//
// live - the status as the server tells it, always whole: events are put
// together here, and a connection that is lost is made again.

const RETRY_MS = 3000;
// The server tells something every 3 s, but while the daemon hangs every 5.
const SILENCE_MAX_MS = 10000;
const LOOK_MS = 1000;
const SKEW_MIN_MS = 2000;

export class Live extends EventTarget {
    #source = null;
    #heardMs = 0;
    #skewMs = 0;

    server = { state: 'starting', text: '', since_ms: Date.now() };
    daemon = {};
    store = null;
    endpoints = [];
    log = [];
    devices = new Map();
    order = [];
    isConnected = null; // null: not yet

    start() {
        this.#connect();
        setInterval(() => this.#look(), LOOK_MS);
    }

    #connect() {
        this.#source?.close();
        this.#heardMs = Date.now();
        this.#source = new EventSource('api/events');
        const take = (type, what) => this.#source.addEventListener(type, ({ data }) => {
            this.#heardMs = Date.now();
            what(JSON.parse(data));
        });
        take('status', (news) => this.#take(news, true));
        take('change', (news) => this.#take(news, false));
        take('beat', (news) => this.#setClock(news));
        this.#source.addEventListener('error', () => this.#lose());
    }

    // Browsers connect again by themselves unless the answer was an error; but
    // a connection can also end without anybody being told.
    #look() {
        const silenceMs = Math.abs(Date.now() - this.#heardMs);
        const isClosed = this.#source.readyState === EventSource.CLOSED;
        if (silenceMs < (isClosed ? RETRY_MS : SILENCE_MAX_MS))
            return;
        this.#lose();
        this.#connect();
    }

    /** Milliseconds since 1970, on the clock of the server. */
    now() {
        return Date.now() + this.#skewMs;
    }

    /** Whether all that is shown is of this moment. */
    get isCurrent() {
        return this.isConnected && this.server.state === 'up';
    }

    #lose() {
        this.isConnected = false;
        this.dispatchEvent(new CustomEvent('update', { detail: new Set() }));
    }

    #setClock({ now_ms: nowMs }) {
        const skewMs = nowMs - Date.now();
        this.#skewMs = Math.abs(skewMs) > SKEW_MIN_MS ? skewMs : 0;
    }

    #take(news, isWhole) {
        this.isConnected = true;
        for (const part of ['server', 'daemon', 'store', 'endpoints', 'log']) {
            if (part in news)
                this[part] = news[part];
        }
        const changed = new Set();
        for (const device of news.devices ?? []) {
            this.devices.set(device.device, device);
            changed.add(device.device);
        }
        const order = isWhole
            ? news.devices.map(({ device }) => device) : news.order;
        if (order) {
            const known = new Set(order);
            for (const name of this.devices.keys()) {
                if (!known.has(name))
                    this.devices.delete(name);
            }
            this.order = order.filter((name) => this.devices.has(name));
        }
        this.dispatchEvent(new CustomEvent('update', { detail: changed }));
    }
}

/** Ask the server for JSON; null if it cannot tell now. */
export async function askFor(path, query) {
    try {
        const answer = await fetch(`${path}?${new URLSearchParams(query)}`);
        return answer.ok ? await answer.json() : null;
    } catch {
        return null;
    }
}
