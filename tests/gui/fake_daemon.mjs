// SPDX-License-Identifier: BSD-2-Clause
//
// fake_daemon - a status socket that answers what a test wants, also what no
// daemon would; and what else the tests of the page have in common.

import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const SERVER =
    fileURLToPath(new URL('../../gui/server.mjs', import.meta.url));

/** An empty directory that goes away with the test. */
export function makeDir(t) {
    const dir = mkdtempSync(join(tmpdir(), 's3blkdev-gui-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    return dir;
}

/** The answer to a question, as the daemon sends it. */
export function frame(value) {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return `ok payload=${Buffer.byteLength(text)}\n${text}`;
}

export class FakeDaemon {
    #server = null;
    #sockets = new Set();
    questions = [];

    /** respond(question, socket): writes what it wants to. */
    constructor(path, respond) {
        this.path = path;
        this.respond = respond;
    }

    start() {
        this.#server = createServer((socket) => {
            this.#sockets.add(socket);
            socket.on('error', () => {});
            socket.on('close', () => this.#sockets.delete(socket));
            socket.on('data', (data) => {
                const question = data.toString().trim();
                this.questions.push(question);
                this.respond(question, socket);
            });
        });
        return new Promise((resolve) => this.#server.listen(this.path, resolve));
    }

    stop() {
        for (const socket of this.#sockets)
            socket.destroy();
        return new Promise((resolve) => {
            if (!this.#server)
                return resolve();
            this.#server.close(resolve);
            this.#server = null;
        });
    }
}

/** A daemon that answers "status" with what status() returns. */
export function goodDaemon(path, status, map = () => null) {
    return new FakeDaemon(path, (question, socket) => {
        const value = question === 'status' ? status() : map(question);
        socket.write(value === null
            ? 'error errno=19 text=no%20device%20of%20that%20name%20is%20open\n'
            : frame(value));
    });
}

export const ENDS = [
    ...Array.from({ length: 24 }, (_, i) => 2 ** (14 + i) - 1)
        .flatMap((end, i) => i === 0 ? [end] : [(end + 1) * 3 / 4 - 1, end]),
    null,
];

/** A status of one device, with what is to be different. */
export function makeStatus({ device = {}, ...others } = {}) {
    return {
        version: 1,
        daemon: {
            version: '1.0', pid: 42, start_time_ns: 1e18, now_ns: 1.1e18,
            devices: 1, left_out: 0, latency_le_ns: ENDS,
        },
        log: [],
        devices: [{
            device: 'disk', size: 1 << 30, chunk_size: 8 << 20,
            state: 'serving', claim: 'ours', conditional_put: true,
            connections: 1, journal_used: 4096, journal_size: 1 << 26,
            cache_used: 1 << 20, cache_limit: 1 << 28, disk_total: 2 ** 40,
            disk_available: 2 ** 39, all_chunks: 128, chunks: 10,
            zero_chunks: 1, remote_chunks: 2, clean_chunks: 3, dirty_chunks: 4,
            dirty_bytes: 1 << 16, behind: false, image_epoch: 3,
            image_time_ns: 1e18, checkpoint: 'none', leases: 0, syncs: [],
            uploaded_chunks: 0, uploaded: 0, evicted: 0, fetched: 0,
            requests: 0, parked: 0, cold_reads: 0, damaged: 0, alarms: 0,
            read_requests: 0, write_requests: 0, flush_requests: 0,
            trim_requests: 0, zero_requests: 0, other_requests: 0,
            read_bytes: 0, written_bytes: 0, errors_io: 0, errors_space: 0,
            errors_refused: 0, errors_other: 0, in_flight: 0, read_ns: 0,
            write_ns: 0, flush_ns: 0, read_latency: [], write_latency: [],
            flush_latency: [], ...device,
        }],
        ...others,
    };
}

/** Start server.mjs on a free port; resolves to its port when it serves. */
export async function startServer(t, dir, lines = [], mode = 0o600) {
    for (;;) {
        const server = await tryToStartServer(t, dir, lines, mode);
        if (server)
            return server;
    }
}

/** Resolves to null if somebody else was faster to take the port. */
async function tryToStartServer(t, dir, lines, mode) {
    const config = join(dir, 'gui.conf');
    const port = await freePort();
    writeFileSync(config, [`listen 127.0.0.1:${port}`,
        `status ${join(dir, 'status')}`, ...lines, ''].join('\n'));
    chmodSync(config, mode);
    const child = spawn(process.execPath, [SERVER, '-c', config],
        { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    const ended = new Promise((resolve) => child.on('exit', resolve));
    t.after(async () => {
        child.kill('SIGKILL');
        await ended;
    });
    const serves = await new Promise((resolve, reject) => {
        child.stderr.on('data', (data) => {
            said += data;
            if (said.includes('info: serving'))
                resolve(true);
        });
        child.on('close', (code) => said.includes('EADDRINUSE')
            ? resolve(false)
            : reject(new Error(`it ended, ${code}: ${said}`)));
    });
    return serves ? { port, child, ended, said: () => said } : null;
}

/** A port that nobody listens on just now. */
export function freePort() {
    return new Promise((resolve) => {
        const server = createServer();
        server.listen(0, '127.0.0.1', () => {
            const { port } = server.address();
            server.close(() => resolve(port));
        });
    });
}

/** One request; resolves to {status, headers, text}. */
export function get(port, path, { headers = {}, method = 'GET', body } = {}) {
    return new Promise((resolve, reject) => {
        const asked = request({
            host: '127.0.0.1', port, path, method, headers, agent: false,
        }, (response) => {
            const chunks = [];
            response.on('data', (chunk) => chunks.push(chunk));
            response.on('end', () => resolve({
                status: response.statusCode,
                headers: response.headers,
                text: Buffer.concat(chunks).toString(),
            }));
            response.on('error', reject);
        });
        asked.on('error', reject);
        asked.end(body);
    });
}

/** Ask until the answer is as wanted: what is waited for does come. */
export async function until(wanted, ask) {
    for (;;) {
        const answer = await ask();
        if (wanted(answer))
            return answer;
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

/** Read server-sent events, one next() after the other. */
export class EventReader {
    #text = '';
    #events = [];
    #waiting = null;

    constructor(port, headers = {}) {
        this.ended = new Promise((resolve) => {
            this.request = request({
                host: '127.0.0.1', port, path: '/api/events', headers,
                agent: false,
            }, (response) => {
                this.response = response;
                response.on('data', (chunk) => this.#take(chunk));
                response.on('error', () => {});
                response.on('close', resolve);
            });
            this.request.on('error', resolve);
            this.request.end();
        });
    }

    #take(chunk) {
        this.#text += chunk;
        const parts = this.#text.split('\n\n');
        this.#text = parts.pop();
        for (const part of parts) {
            const event = /^event: (.*)$/m.exec(part)?.[1];
            const data = /^data: (.*)$/m.exec(part)?.[1];
            if (event)
                this.#events.push({ event, data: JSON.parse(data) });
        }
        if (this.#waiting && this.#events.length > 0)
            this.#waiting();
    }

    async next() {
        if (this.#events.length === 0)
            await new Promise((resolve) => { this.#waiting = resolve; });
        this.#waiting = null;
        return this.#events.shift();
    }

    /** The first event for which this is true. */
    async find(wanted) {
        for (;;) {
            const event = await this.next();
            if (wanted(event))
                return event;
        }
    }

    close() {
        this.request.destroy();
    }
}
