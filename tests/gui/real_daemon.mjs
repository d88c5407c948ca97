// SPDX-License-Identifier: BSD-2-Clause
//
// real_daemon - s3blkdevd with two devices and a directory as its store, and
// the page's server in front of it.  PROGRAMS is the directory of the
// programs, as for the stories in tests/system.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { get, makeDir, startServer, until } from './fake_daemon.mjs';

const TREE = fileURLToPath(new URL('../..', import.meta.url));
const PROGRAMS = process.env.PROGRAMS ??
    resolve(TREE, process.env.BUILD ?? 'build', 'release');

/** Why there can be no daemon; false if there can. */
export const PROGRAMS_PROBLEM = existsSync(join(PROGRAMS, 's3blkdevd'))
    ? false : `there is no ${PROGRAMS}/s3blkdevd`;

const DEVICES = `
[disk]
cachedir DIR/disk
size 64M
chunksize 1M
[second]
cachedir DIR/second
size 1G
`;

class Daemon {
    constructor(t, dir) {
        this.dir = dir;
        this.config = join(dir, 'conf');
        for (const name of ['disk', 'second', 'store'])
            mkdirSync(join(dir, name), { mode: 0o700 });
        writeFileSync(this.config, `listen DIR/nbd
status DIR/status
s3dir DIR/store
${DEVICES}`.replaceAll('DIR', dir), { mode: 0o600 });
        t.after(() => this.end('SIGKILL'));
    }

    start() {
        this.child = spawn(join(PROGRAMS, 's3blkdevd'), ['-c', this.config],
            { stdio: ['ignore', 'ignore', 'ignore'] });
        this.ended = new Promise((resolve) => this.child.on('exit', resolve));
    }

    end(signal) {
        this.child?.kill(signal);
        return this.ended;
    }

    /** Run commands of qemu-io on a device. */
    io(...commands) {
        execFileSync('qemu-io', ['-f', 'raw', ...commands.flatMap((c) => ['-c', c]),
            `nbd:unix:${join(this.dir, 'nbd')}:exportname=disk`]);
    }

    /** Upload and publish. */
    sync() {
        execFileSync(join(PROGRAMS, 's3blkdev-sync'), ['-c', this.config,
            '-p', join(this.dir, 'sync.pid'), '600'], { stdio: 'ignore' });
    }
}

/** Both, and what the server says of them. */
export async function beginDaemon(t) {
    const dir = makeDir(t);
    const daemon = new Daemon(t, dir);
    daemon.start();
    const { port } = await startServer(t, dir);
    const status = async () => JSON.parse((await get(port, '/api/status')).text);
    const disk = async () => (await status()).devices.find((d) => d.device === 'disk');
    await until((s) => s.server.state === 'up', status);
    return { daemon, port, status, disk };
}
