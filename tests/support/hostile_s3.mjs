#!/usr/bin/env node
// SPDX-License-Identifier: BSD-2-Clause
//
// hostile_s3 - an S3 server for tests that believes nothing and does wrong on
// command.
//
// usage: hostile_s3.mjs DIR [SETTINGS]
//
// It checks every request as strictly as any real server does, and each
// signature by code of its own; keeps one bucket in memory; listens on
// loopback; and ends with its standard input.  SETTINGS and the commands, a
// line each on standard input, are JSON; each command is answered by one line
// on standard output, as is the start:
//
//   {"ok":true,"http":[PORT...],"https":[PORT...],"ca":PATH}
//
// SETTINGS, of which those marked * can be changed by the command "set":
//
//   endpoints    how many (1); "tls": also with HTTPS (false)
//   bucket, region *, name *   "bucket", "us-east-1", "s3.localhost"
//   clock_ms *   the server's clock is ahead by so much (0)
//   conditional *  obeyed, ignored, unknown (501), racy (endpoints do not know
//                of each other), 304 or 409 (instead of 412)
//   lag *        so many reads do not see a new object (0)
//   etag *       md5, opaque
//   pageSize *   keys in the answer to a list (1000)
//   undeletable *  {key: error code}
//   seed         of the faults that happen by chance (1)
//
// Commands:
//
//   {"fault":{...}}         see hostile_s3/faults.mjs; returns its number
//   {"hits":NUMBER}         how many requests it has met
//   {"clear":true}          no more faults
//   {"release":true}        answer what is held; later ones too, until a
//                           fault that holds is set
//   {"apply":true}          carry out the puts that were held back
//   {"set":{...}}
//   {"access":{"key":..,"secret":..,"token":..,"isExpired":..}}
//                           the only key that is known from now on
//   {"endpoint":N,"state":STATE}   "up"; "down": refuses connections; "mute":
//                           takes them and says nothing; "reset": takes them
//                           and ends them; what is connected ends unless "up"
//   {"tls":{"certificate":KIND,"version":V,"protocol":P}}   see certificates.mjs
//   {"put":KEY,"data":TEXT} {"remove":KEY} {"get":KEY}   the object itself
//   {"keys":PREFIX} {"usage":true}   how many objects, and bytes in them
//   {"counters":true}       requests, by operation, connections, refused, ...
//   {"await":NAME,"count":N}   answered when that counter is there
//   {"log":true}            the requests since the last time
//   {"disconnect":true}     all connections end

import net from 'node:net';
import tls from 'node:tls';
import readline from 'node:readline';
import { Bucket } from './hostile_s3/bucket.mjs';
import { makeCertificates } from './hostile_s3/certificates.mjs';
import { Connection } from './hostile_s3/connection.mjs';
import { Faults } from './hostile_s3/faults.mjs';

const LOG_MAX = 10000;
const FIXED = ['endpoints', 'tls', 'bucket', 'seed'];

class Server {
    constructor(dir, given) {
        this.dir = dir;
        this.settings = {
            endpoints: 1, tls: false, bucket: 'bucket', region: 'us-east-1',
            name: 's3.localhost', clock_ms: 0, conditional: 'obeyed', lag: 0,
            etag: 'md5', pageSize: 1000, undeletable: {}, seed: 1,
        };
        this.change(given);
        this.bucket = new Bucket(this.settings);
        this.faults = new Faults(this.settings.seed);
        this.access = new Map([['testkey12345',
            { secret: 'testsecret0123456789abcdef' }]]);
        this.endpoints = [];
        this.connections = new Set();
        this.nextConnection = 0;
        this.waiting = []; // answers that are held
        this.isHolding = true;
        this.awaiting = []; // commands that wait for a counter
        this.log = [];
        this.complaints = [];
        this.lastRefusal = '';
        this.counters = {
            requests: 0, connections: 0, refused: 0, handshakes: 0,
            resumed: 0, bytes_in: 0, bytes_out: 0, complaints: 0,
            waiting: 0,
        };
    }

    nowMs() {
        return Date.now() + this.settings.clock_ms;
    }

    change(given) {
        for (const [name, value] of Object.entries(given)) {
            if (!(name in this.settings))
                throw new Error(`there is no setting ${name}`);
            this.settings[name] = value;
        }
    }

    // ---- what connections tell --------------------------------------------

    count(name) {
        this.counters[name] = (this.counters[name] ?? 0) + 1;
        this.awaiting = this.awaiting.filter((one) => {
            if ((this.counters[one.name] ?? 0) < one.count)
                return true;
            one.done();
            return false;
        });
    }

    note(connection, request) {
        this.log.push({
            connection: connection.number, endpoint: request.endpoint,
            op: request.op, key: request.key,
            range: request.field('range'), host: request.field('host'),
            conditional: request.field('if-none-match') !== undefined,
        });
        if (this.log.length > LOG_MAX)
            this.log.shift();
        this.count('requests');
        this.count(request.op);
        this.count(`endpoint${request.endpoint}`);
    }

    // The program that is tested did what no server has to take.
    complain(text) {
        if (this.complaints.length < 100)
            this.complaints.push(text);
        this.count('complaints');
    }

    // Returns when what is held may go on.
    held() {
        if (!this.isHolding)
            return Promise.resolve();
        return new Promise((done) => {
            this.waiting.push(done);
            this.count('waiting');
        });
    }

    // ---- endpoints --------------------------------------------------------

    async listen() {
        if (this.settings.tls)
            this.certificates = makeCertificates(this.dir);
        this.changeTls({});
        for (let n = 0; n < this.settings.endpoints; n++) {
            const endpoint = { number: n, state: 'up', servers: [] };
            this.endpoints.push(endpoint);
            await this.open(endpoint, false);
            if (this.settings.tls)
                await this.open(endpoint, true);
        }
        return {
            http: this.endpoints.map((e) => e.servers[0].port),
            https: this.settings.tls ?
                this.endpoints.map((e) => e.servers[1].port) : [],
            ca: this.certificates?.ca,
        };
    }

    async open(endpoint, isTls, port = 0) {
        const listener = net.createServer({ noDelay: true,
            allowHalfOpen: true },
        (raw) => this.accept(endpoint, raw, isTls));
        await new Promise((done, failed) => {
            listener.once('error', failed);
            listener.listen(port, '127.0.0.1', done);
        });
        endpoint.servers[isTls ? 1 : 0] = {
            listener, port: listener.address().port,
        };
    }

    accept(endpoint, raw, isTls) {
        this.count('connections');
        if (endpoint.state === 'reset') {
            raw.on('error', () => {});
            raw.resetAndDestroy();
            return;
        }
        if (endpoint.state === 'mute') {
            const mute = { endpoint, raw };
            this.connections.add(mute);
            raw.on('error', () => {});
            raw.on('end', () => raw.end());
            raw.on('close', () => this.connections.delete(mute));
            raw.resume();
            return;
        }
        if (!isTls) {
            new Connection(this, endpoint, raw, raw);
            return;
        }
        const stream = new tls.TLSSocket(raw, {
            isServer: true,
            secureContext: this.tlsContext,
            ALPNProtocols: [this.tlsProtocol],
        });
        new Connection(this, endpoint, stream, raw);
        stream.on('secure', () => {
            this.count('handshakes');
            if (stream.isSessionReused())
                this.count('resumed');
        });
    }

    changeTls({ certificate = 'good', version, protocol = 'http/1.1' }) {
        if (!this.certificates)
            return;
        this.tlsProtocol = protocol;
        this.tlsContext = tls.createSecureContext({
            ...this.certificates.kinds[certificate],
            ...(version ? { minVersion: version, maxVersion: version,
                ciphers: 'DEFAULT@SECLEVEL=0' } : {}),
        });
    }

    disconnect(endpoint) {
        for (const connection of [...this.connections]) {
            if (!endpoint || connection.endpoint === endpoint)
                connection.raw.destroy();
        }
    }

    async changeState(number, state) {
        const endpoint = this.endpoints[number];
        if (!endpoint || !['up', 'down', 'mute', 'reset'].includes(state))
            throw new Error(`no endpoint ${number}, or no state ${state}`);
        const wasDown = endpoint.state === 'down';
        endpoint.state = state;
        if (state === 'down' && !wasDown) {
            for (const { listener } of endpoint.servers)
                listener.close();
        } else if (state !== 'down' && wasDown) {
            for (const [isTls, { port }] of
                [...endpoint.servers.entries()])
                await this.open(endpoint, isTls === 1, port);
        }
        if (state !== 'up')
            this.disconnect(endpoint);
    }

    // ---- commands ---------------------------------------------------------

    async command(line) {
        const asked = JSON.parse(line);
        const [name] = Object.keys(asked);
        const value = asked[name];
        switch (name) {
        case 'fault':
            this.isHolding ||= Boolean(value.hold);
            return { number: this.faults.add(value) };
        case 'hits':
            return { hits: this.faults.hits(value) };
        case 'clear':
            this.faults.clear();
            return {};
        case 'release': {
            const { waiting } = this;
            this.waiting = [];
            this.isHolding = false;
            waiting.forEach((done) => done());
            return { released: waiting.length };
        }
        case 'apply':
            return { applied: this.bucket.applyHeld() };
        case 'set':
            if (Object.keys(value).some((key) => FIXED.includes(key)))
                throw new Error('this is fixed at the start');
            this.change(value);
            return {};
        case 'access':
            this.access = new Map([[value.key, value]]);
            return {};
        case 'endpoint':
            await this.changeState(value, asked.state);
            return {};
        case 'tls':
            this.changeTls(value);
            return {};
        case 'put':
            this.bucket.put(value, Buffer.from(asked.data, 'latin1'), -1);
            return {};
        case 'remove':
            this.bucket.remove(value);
            return {};
        case 'get': {
            const object = this.bucket.objects.get(value);
            return object ? { data: object.data.toString('latin1'),
                storage: Object.fromEntries(object.storage ?? []) } :
                { absent: true };
        }
        case 'keys':
            return { keys: [...this.bucket.objects.keys()]
                .filter((key) => key.startsWith(value)).sort() };
        case 'usage':
            return { objects: this.bucket.objects.size,
                bytes: [...this.bucket.objects.values()]
                    .reduce((sum, object) => sum + object.data.length, 0) };
        case 'counters':
            return { ...this.counters, connected: this.connections.size,
                lastRefusal: this.lastRefusal, said: this.complaints };
        case 'await':
            if ((this.counters[value] ?? 0) < asked.count) {
                await new Promise((done) => this.awaiting.push(
                    { name: value, count: asked.count, done }));
            }
            return {};
        case 'log': {
            const { log } = this;
            this.log = [];
            return { log };
        }
        case 'disconnect':
            this.disconnect(null);
            return {};
        default:
            throw new Error(`no such command: ${name}`);
        }
    }
}

function say(answer) {
    process.stdout.write(JSON.stringify(answer) + '\n');
}

const [dir, settings] = process.argv.slice(2);
const server = new Server(dir, JSON.parse(settings ?? '{}'));
say({ ok: true, ...await server.listen() });
for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
        say({ ok: true, ...await server.command(line) });
    } catch (error) {
        say({ ok: false, error: error.message });
    }
}
process.exit(0);
