// SPDX-License-Identifier: BSD-2-Clause
//
// http - what is answered to whom: every request is a GET of a few known
// paths, and nothing changes anything.

import { createServer } from 'node:http';
import { isIP } from 'node:net';
import { constants, gzipSync } from 'node:zlib';

import { Events, snapshotOf } from './events.mjs';
import { HEALTH_WORDS } from './health.mjs';
import { RANGES } from './history.mjs';
import { metricsText } from './metrics.mjs';
import { PasswordCheck } from './password.mjs';
import { cleanMap } from './status.mjs';
import { StatusError, ask, encodeValue } from './status_client.mjs';

const CONNECTIONS_MAX = 256;
const URL_MAX = 4096;
// A client that takes nothing of an answer for so long, or asks nothing.  An
// open page is written to more often, see events.mjs.
const STUCK_MS = 30000;
const MAPS_AT_ONCE = 4;
const MAPS_ASKED_MAX = 20; // now, and in their turn
const MAP_KEEP_MS = 2000;
const MAPS_KEPT = 32;
const CELLS = { default: 2048, max: 4096 };

const COMMON_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; " +
        "style-src 'self'; img-src 'self'; connect-src 'self'; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Permissions-Policy':
        'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
};

// What is wrong with a request that could not be read.
const STATUS_OF_CLIENT = {
    HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
    ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** An answer that is an error, with its status and words. */
class HttpError extends Error {
    constructor(status, message, headers = {}) {
        super(message);
        this.status = status;
        this.headers = headers;
    }
}

/** Whether a Host is one of ours: names that others made lead nowhere. */
export function hostIsAllowed(host, hostnames) {
    const match = /^(?:\[([0-9a-f:.]+)\]|([0-9a-z.-]+))(?::[0-9]{1,5})?$/i
        .exec(host ?? '');
    if (!match)
        return false;
    if (match[1] !== undefined)
        return isIP(match[1]) === 6;
    return isIP(match[2]) === 4 || hostnames.has(match[2].toLowerCase());
}

/** A number of the query, from min to max. */
function numberOf(query, name, otherwise, max) {
    const text = query.get(name);
    if (text === null)
        return otherwise;
    if (!/^[0-9]{1,15}$/.test(text) || Number(text) > max)
        throw new HttpError(400, `${name} is no number up to ${max}`);
    return Number(text);
}

/** What is the same for everybody until the next answer of the daemon. */
class Kept {
    #bytes = null;
    #make;

    constructor(watcher, make) {
        this.#make = make;
        watcher.on('update', () => { this.#bytes = null; });
    }

    get bytes() {
        this.#bytes ??= this.#make();
        return this.#bytes;
    }
}

/** Asks the daemon for maps: few at once, and not the same twice a moment. */
class Maps {
    #path;
    #kept = new Map(); // question → {text, atMs}
    #running = new Map(); // question → promise
    #asking = 0;
    #turns = []; // of those that wait until few others are being asked for
    #ask;

    constructor(path, askFor) {
        this.#path = path;
        this.#ask = askFor;
    }

    async get(question) {
        const kept = this.#kept.get(question);
        if (kept && performance.now() - kept.atMs < MAP_KEEP_MS)
            return kept.text;
        if (!this.#running.has(question)) {
            if (this.#running.size >= MAPS_ASKED_MAX)
                throw new HttpError(503, 'too many maps are being asked for',
                    { 'Retry-After': '1' });
            this.#running.set(question, this.#inTurn(question)
                .finally(() => this.#running.delete(question)));
        }
        return this.#running.get(question);
    }

    async #inTurn(question) {
        if (this.#asking >= MAPS_AT_ONCE)
            await new Promise((resolve) => this.#turns.push(resolve));
        else
            this.#asking++;
        try {
            return await this.#fetch(question);
        } finally {
            const next = this.#turns.shift();
            if (next)
                next(); // it has this one's place
            else
                this.#asking--;
        }
    }

    async #fetch(question) {
        const map = cleanMap(await this.#ask(this.#path, question));
        if (!map)
            throw new StatusError('wrong', 'its answer is no map');
        this.#kept.delete(question);
        const text = JSON.stringify(map);
        this.#kept.set(question, { text, atMs: performance.now() });
        if (this.#kept.size > MAPS_KEPT)
            this.#kept.delete(this.#kept.keys().next().value);
        return text;
    }
}

/** How the daemon and its devices are, in a line. */
function inWords({ isUp, state, status, devices }) {
    const counts = HEALTH_WORDS
        .map((word) => [devices.filter(({ health }) => health.word === word).length, word]);
    const told = [...counts, [status.daemon.left_out ?? 0, 'could not be opened']]
        .filter(([count]) => count > 0)
        .map(([count, word]) => `${count} ${word}`);
    return isUp ? `${state.text}; devices: ${told.join(', ') || 'none'}`
        : state.text;
}

export class Page {
    #watcher;
    #files;
    #config;
    #password;
    #maps;
    #status;
    #metrics;
    #packedMetrics;
    #stuckMs;
    #servers = [];
    #answering = new WeakSet(); // connections
    events;

    constructor(config, watcher, files,
        { askFor = ask, stuckMs = STUCK_MS } = {}) {
        this.#config = config;
        this.#watcher = watcher;
        this.#files = files;
        this.#password = config.password ? new PasswordCheck(config.password) : null;
        this.#maps = new Maps(config.status, askFor);
        this.#status = new Kept(watcher, () =>
            Buffer.from(JSON.stringify(snapshotOf(watcher))));
        this.#metrics = new Kept(watcher, () => metricsText(watcher));
        this.#packedMetrics = new Kept(watcher, () => gzipSync(this.#metrics.bytes,
            { level: constants.Z_BEST_SPEED }));
        this.#stuckMs = stuckMs;
        this.events = new Events(watcher);
    }

    /** Listen on one address; resolves to what it became. */
    listen({ host, port }) {
        const server = createServer({
            maxHeaderSize: 8192,
            headersTimeout: 10000,
            requestTimeout: 10000,
            keepAliveTimeout: 5000,
            connectionsCheckingInterval: 1000,
        });
        server.maxConnections = CONNECTIONS_MAX;
        server.timeout = this.#stuckMs;
        server.on('request', (request, response) =>
            void this.#serve(request, response));
        server.on('clientError', (error, socket) => {
            const status = STATUS_OF_CLIENT[error.code] ?? '400 Bad Request';
            if (socket.writable)
                socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n` +
                    'Content-Length: 0\r\n\r\n', () => socket.destroy());
            else
                socket.destroy();
        });
        return new Promise((resolve, reject) => {
            server.once('error', reject);
            server.listen({ host, port }, () => {
                server.off('error', reject);
                this.#servers.push(server);
                resolve(server.address());
            });
        });
    }

    /** Resolves when nobody is connected any more. */
    async close() {
        this.events.close();
        await Promise.all(this.#servers.map((server) => new Promise((resolve) => {
            server.close(resolve);
            server.closeAllConnections();
        })));
    }

    /**
     * Whether another answer of this connection is not sent yet: who does not
     * wait for it could make us keep any number of them.
     */
    #isTooEarly({ socket }, response) {
        if (this.#answering.has(socket))
            return true;
        this.#answering.add(socket);
        for (const event of ['finish', 'close'])
            response.on(event, () => this.#answering.delete(socket));
        return false;
    }

    async #serve(request, response) {
        response.on('error', () => {}); // the client has gone
        if (this.#isTooEarly(request, response)) {
            request.socket.destroy();
            return;
        }
        request.resume(); // a body is of no interest
        try {
            await this.#answer(request, response);
        } catch (error) {
            this.#fail(request, response, error);
        }
    }

    #fail(request, response, error) {
        let [status, text, headers] = [500, 'something went wrong here', {}];
        if (error instanceof HttpError)
            [status, text, headers] = [error.status, error.message, error.headers];
        else if (error instanceof StatusError)
            [status, text] = [error.code === 'refused' ? 404 : 503, error.message];
        else
            console.error(`${request.method} ${JSON.stringify(request.url)}:`, error);
        if (response.headersSent)
            response.destroy();
        else
            this.#send(request, response, status, 'text/plain; charset=utf-8',
                `${text}\n`, headers);
    }

    #send(request, response, status, type, body, headers = {}) {
        const bytes = Buffer.isBuffer(body) ? body : Buffer.from(body);
        response.writeHead(status, {
            ...COMMON_HEADERS,
            'Content-Type': type,
            'Content-Length': bytes.length,
            'Cache-Control': 'no-store',
            ...headers,
        });
        response.end(request.method === 'HEAD' ? undefined : bytes);
    }

    #sendJson(request, response, text) {
        this.#send(request, response, 200, 'application/json', text);
    }

    async #answer(request, response) {
        if (!hostIsAllowed(request.headers.host, this.#config.hostnames))
            throw new HttpError(421, 'this is not the name of this server; ' +
                'see "hostname" in its configuration');
        await this.#checkPassword(request);
        if (request.method !== 'GET' && request.method !== 'HEAD')
            throw new HttpError(405, 'only GET is answered here',
                { Allow: 'GET, HEAD' });
        if (request.url.length > URL_MAX)
            throw new HttpError(414, 'this is too long an address');
        const [path, search = ''] = request.url.split('?', 2);
        const route = Object.hasOwn(ROUTES, path) ? ROUTES[path] : null;
        if (route)
            await this[route](request, response, new URLSearchParams(search));
        else
            this.#sendFile(request, response, path);
    }

    async #checkPassword(request) {
        if (!this.#password)
            return;
        const result = await this.#password.check(request.headers.authorization);
        if (result === 'busy')
            throw new HttpError(503, 'too many passwords are being checked',
                { 'Retry-After': '1' });
        if (result !== 'right')
            throw new HttpError(401, 'a password is needed', {
                'WWW-Authenticate': 'Basic realm="s3blkdev", charset="UTF-8"',
            });
    }

    #sendFile(request, response, path) {
        const file = this.#files.get(path);
        if (!file)
            throw new HttpError(404, 'there is nothing here');
        const headers = { 'Cache-Control': 'no-cache', ETag: file.etag };
        if (request.headers['if-none-match'] === file.etag) {
            response.writeHead(304, { ...COMMON_HEADERS, ...headers });
            response.end();
            return;
        }
        this.#send(request, response, 200, file.type, file.body, headers);
    }

    /** /api/status */
    sendStatus(request, response) {
        this.#sendJson(request, response, this.#status.bytes);
    }

    /** /api/history?range=hour|day&device=NAME, or &endpoint=NAME */
    sendHistory(request, response, query) {
        const range = query.get('range') ?? 'hour';
        const kind = query.has('endpoint') ? 'endpoint' : 'device';
        const name = query.get(kind) ?? '';
        if (!Object.hasOwn(RANGES, range))
            throw new HttpError(400, 'range is hour or day');
        const history = this.#watcher.history.get(range, kind, name,
            this.#watcher.clock.shiftMs());
        if (!history)
            throw new HttpError(404, `nothing is known of such a ${kind}`);
        this.#sendJson(request, response, JSON.stringify(history));
    }

    /** /api/map?device=NAME&from=CHUNK&to=CHUNK&cells=N */
    async sendMap(request, response, query) {
        const name = query.get('device') ?? '';
        const max = Number.MAX_SAFE_INTEGER;
        const from = numberOf(query, 'from', 0, max);
        const to = numberOf(query, 'to', max, max);
        const cells = numberOf(query, 'cells', CELLS.default, CELLS.max);
        if (!this.#watcher.devices.some(({ device }) => device === name))
            throw new HttpError(404, 'there is no such device');
        if (cells < 1)
            throw new HttpError(400, 'at least one cell is needed');
        this.#sendJson(request, response, await this.#maps.get(
            `map device=${encodeValue(name)} from=${from} to=${to} cells=${cells}`));
    }

    /** /api/events */
    sendEvents(request, response) {
        if (request.method === 'HEAD')
            throw new HttpError(405, 'only GET is answered here', { Allow: 'GET' });
        if (!this.events.add(response, COMMON_HEADERS))
            throw new HttpError(503, 'too many pages are open',
                { 'Retry-After': '10' });
    }

    /** /metrics */
    sendMetrics(request, response) {
        const type = 'text/plain; version=0.0.4; charset=utf-8';
        if (/\bgzip\b/.test(request.headers['accept-encoding']))
            this.#send(request, response, 200, type, this.#packedMetrics.bytes,
                { 'Content-Encoding': 'gzip', Vary: 'Accept-Encoding' });
        else
            this.#send(request, response, 200, type, this.#metrics.bytes,
                { Vary: 'Accept-Encoding' });
    }

    /** /healthz */
    sendHealth(request, response) {
        this.#send(request, response, this.#watcher.isUp ? 200 : 503,
            'text/plain; charset=utf-8', `${inWords(this.#watcher)}\n`);
    }
}

const ROUTES = {
    '/api/status': 'sendStatus',
    '/api/history': 'sendHistory',
    '/api/map': 'sendMap',
    '/api/events': 'sendEvents',
    '/metrics': 'sendMetrics',
    '/healthz': 'sendHealth',
};
