// SPDX-License-Identifier: BSD-2-Clause
//
// live - the status as the server tells it, always whole: events are put
// together here, and a connection that is lost is made again.

const RETRY_MS = 3000;
const SKEW_MIN_MS = 2000;

export class Live extends EventTarget {
    #source = null;
    #timer = null;
    #skewMs = 0;

    server = { state: 'starting', text: '', since_ms: Date.now() };
    daemon = {};
    store = null;
    endpoints = [];
    log = [];
    devices = new Map();
    order = [];
    isConnected = false;

    connect() {
        this.#source = new EventSource('api/events');
        this.#source.addEventListener('status', ({ data }) =>
            this.#take(JSON.parse(data), true));
        this.#source.addEventListener('change', ({ data }) =>
            this.#take(JSON.parse(data), false));
        this.#source.addEventListener('open', () => {
            this.isConnected = true;
            void this.#setClock();
        });
        this.#source.addEventListener('error', () => this.#lose());
    }

    /** Milliseconds since 1970, on the clock of the server. */
    now() {
        return Date.now() + this.#skewMs;
    }

    /** Whether all that is shown is of this moment. */
    get isCurrent() {
        return this.isConnected && this.server.state === 'up';
    }

    // Browsers connect again by themselves unless the answer was an error.
    #lose() {
        this.isConnected = false;
        if (this.#source.readyState === EventSource.CLOSED) {
            clearTimeout(this.#timer);
            this.#timer = setTimeout(() => this.connect(), RETRY_MS);
        }
        this.dispatchEvent(new CustomEvent('update', { detail: new Set() }));
    }

    async #setClock() {
        try {
            const { headers } = await fetch('icon.svg', { method: 'HEAD' });
            const skewMs = Date.parse(headers.get('Date')) - Date.now();
            this.#skewMs = Math.abs(skewMs) > SKEW_MIN_MS ? skewMs : 0;
        } catch {
            // the connection is lost again: then it is asked once more
        }
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
