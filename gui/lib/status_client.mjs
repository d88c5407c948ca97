// SPDX-License-Identifier: BSD-2-Clause
//
// status_client - ask the daemon's status socket (docs/STATUS.md).
//
// A connection for each question, with a deadline for all of it.  What comes
// back is bounded, and believed only as far as it was checked.

import { connect } from 'node:net';

const LINE_MAX = 8192;
const PAYLOAD_MAX = 4 << 20;
export const TIMEOUT_MS = 5000;

/**
 * What went wrong; code is 'down' (nobody listens), 'denied', 'hung' (no
 * answer in time), 'wrong' (an answer that is none) or 'refused' (the daemon
 * said no).
 */
export class StatusError extends Error {
    constructor(code, message) {
        super(message);
        this.code = code;
    }
}

function ofSystem(error, path) {
    switch (error.code) {
    case 'ENOENT':
        return new StatusError('down', `${path} is not there: the daemon does ` +
            'not run, or its configuration has no "status"');
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'EPIPE':
        return new StatusError('down', 'the daemon does not run');
    case 'EAGAIN': // as many wait already as the system lets wait
        return new StatusError('hung', 'the daemon takes no connections');
    case 'EACCES':
    case 'EPERM':
        return new StatusError('denied', `this user may not open ${path}`);
    default:
        return new StatusError('down', `${path}: ${error.message}`);
    }
}

function decodeValue(text) {
    return text.replace(/%([0-9A-Fa-f]{2})/g,
        (all, hex) => String.fromCharCode(parseInt(hex, 16)));
}

/** "ok payload=5" → {verb, keys}; null: it is no such line. */
export function parseLine(line) {
    const [verb, ...pairs] = line.split(' ');
    const keys = new Map();
    if (!/^[a-z_]+$/.test(verb))
        return null;
    for (const pair of pairs) {
        const match = /^([a-z_]+)=([^\s=]*)$/.exec(pair);
        if (!match)
            return null;
        keys.set(match[1], decodeValue(match[2]));
    }
    return { verb, keys };
}

/** The other way round: a value as a message has it. */
export function encodeValue(text) {
    return Array.from(Buffer.from(String(text), 'utf8'), (byte) => {
        const char = String.fromCharCode(byte);
        return /[0-9A-Za-z._,:/+-]/.test(char)
            ? char
            : '%' + byte.toString(16).padStart(2, '0').toUpperCase();
    }).join('');
}

/** What is shown and logged stays one line. */
const printable = (text) => text.replace(/[^\x20-\x7e]/g, '?');

/** Gathers an answer; take() returns its payload when all of it is there. */
class Answer {
    #chunks = [];
    #size = 0;
    #wanted = -1; // of the payload; -1: its line is not there yet

    take(chunk) {
        this.#chunks.push(chunk);
        this.#size += chunk.length;
        if (this.#wanted < 0 && !this.#takeLine())
            return null;
        if (this.#size < this.#wanted)
            return null;
        return Buffer.concat(this.#chunks).subarray(0, this.#wanted);
    }

    #takeLine() {
        const all = Buffer.concat(this.#chunks);
        const end = all.indexOf(10);
        if (end < 0 ? this.#size > LINE_MAX : end > LINE_MAX)
            throw new StatusError('wrong', 'its answer is too long a line');
        if (end < 0)
            return false;
        const line = parseLine(all.subarray(0, end).toString('latin1'));
        const size = line?.keys.get('payload') ?? '0';
        if (line?.verb === 'error')
            throw new StatusError('refused', printable(
                line.keys.get('text') ?? 'an error without a word'));
        if (line?.verb !== 'ok' || !/^[0-9]{1,9}$/.test(size) ||
            Number(size) > PAYLOAD_MAX)
            throw new StatusError('wrong', 'its answer is none');
        this.#wanted = Number(size);
        this.#chunks = [all.subarray(end + 1)];
        this.#size = all.length - end - 1;
        return true;
    }
}

/** Ask one question; resolves to the JSON of the answer, an object. */
export function ask(path, question, timeoutMs = TIMEOUT_MS) {
    return new Promise((resolve, reject) => {
        const socket = connect({ path });
        const answer = new Answer();
        const timer = setTimeout(() => {
            end(reject, new StatusError('hung',
                `no answer within ${timeoutMs / 1000} s`));
        }, timeoutMs);

        function end(how, what) {
            clearTimeout(timer);
            socket.removeAllListeners();
            socket.on('error', () => {}); // too late to be of interest
            socket.destroy();
            how(what);
        }
        socket.on('connect', () => socket.write(`${question}\n`));
        socket.on('error', (error) => end(reject, ofSystem(error, path)));
        socket.on('end', () => end(reject,
            new StatusError('down', 'the daemon ended the connection')));
        socket.on('data', (chunk) => {
            try {
                const payload = answer.take(chunk);
                if (payload !== null)
                    end(resolve, parseObject(payload));
            } catch (error) {
                end(reject, error);
            }
        });
    });
}

function parseObject(payload) {
    let value = null;
    try {
        value = JSON.parse(payload.toString('utf8'));
    } catch {
        // said below
    }
    if (value === null || typeof value !== 'object' || Array.isArray(value))
        throw new StatusError('wrong', 'its answer is no object of JSON');
    return value;
}
