// SPDX-License-Identifier: BSD-2-Clause
//
// config - the page's own configuration: "name value" lines, as in
// s3blkdev.conf.
//
// All mistakes are told at once, with file and line.  The file has no secret
// but the hash of a password; the configuration of the daemon, which has
// secrets, is never read.

import { readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';

import { isPasswordHash } from './password.mjs';

// Changed by "make install" if it installs elsewhere.
export const DEFAULT_PATH = '/usr/local/etc/s3blkdev-gui.conf';

const SIZE_MAX = 64 * 1024;
const LISTEN_MAX = 16;
const NAMES_MAX = 64;
const OTHERS_MAY_READ = 0o004;

/** "127.0.0.1:8080", "[::1]:8080" or "localhost:8080" → {host, port}. */
export function parseAddress(text) {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(text);
    const port = match ? Number(match[3]) : 0;
    if (!match || port < 1 || port > 65535)
        return null;
    if (match[1] !== undefined)
        return isIP(match[1]) === 6 ? { host: match[1], port } : null;
    if (match[2] !== 'localhost' && isIP(match[2]) !== 4)
        return null;
    return { host: match[2], port };
}

const SETTINGS = {
    listen(value, config) {
        const address = parseAddress(value);
        if (!address)
            return 'is no address and port, such as 127.0.0.1:8080 or [::1]:8080';
        if (config.listen.length === LISTEN_MAX)
            return `more than ${LISTEN_MAX} are too many`;
        config.listen.push(address);
        return null;
    },
    status(value, config) {
        if (!value.startsWith('/'))
            return 'is no path that begins with /';
        config.status = value;
        return null;
    },
    password(value, config) {
        if (!isPasswordHash(value))
            return 'is not what "server.mjs --hash-password" prints';
        config.password = value;
        return null;
    },
    hostname(value, config) {
        if (!/^[0-9a-z]([0-9a-z.-]{0,252})$/i.test(value))
            return 'is no host name';
        if (config.hostnames.size === NAMES_MAX)
            return `more than ${NAMES_MAX} are too many`;
        config.hostnames.add(value.toLowerCase());
        return null;
    },
};

const MANY_TIMES = new Set(['listen', 'hostname']);

/** Returns {config, problems}: the problems are lines for people. */
export function parseConfig(text, name) {
    const config = {
        listen: [],
        status: '/run/s3blkdev/status/socket',
        password: null,
        hostnames: new Set(['localhost']),
    };
    const problems = [];
    const seen = new Set();
    text.split('\n').forEach((line, index) => {
        const plain = line.replace(/(^|[ \t])[#;].*$/, '').trim();
        if (plain === '')
            return;
        const [, setting, value] = /^(\S+)\s*(.*)$/.exec(plain);
        const where = `${name}:${index + 1}`;
        const set = Object.hasOwn(SETTINGS, setting) ? SETTINGS[setting] : null;
        if (!set)
            problems.push(`${where}: there is no setting "${setting}"`);
        else if (value === '')
            problems.push(`${where}: ${setting} has no value`);
        else if (seen.has(setting) && !MANY_TIMES.has(setting))
            problems.push(`${where}: ${setting} is set a second time`);
        else {
            const problem = set(value, config);
            if (problem)
                problems.push(`${where}: ${setting}: "${value}" ${problem}`);
        }
        seen.add(setting);
    });
    if (config.listen.length === 0)
        config.listen.push({ host: '127.0.0.1', port: 8080 });
    return { config, problems };
}

/**
 * Read the file; null: the default one, which need not be there.  Returns
 * {config, problems}.
 */
export function loadConfig(path) {
    const name = path ?? DEFAULT_PATH;
    let text = '';
    try {
        const info = statSync(name);
        if (info.size > SIZE_MAX)
            return { config: null, problems: [`${name}: is too large`] };
        text = readFileSync(name, 'utf8');
        const result = parseConfig(text, name);
        if (result.config.password && (info.mode & OTHERS_MAY_READ) !== 0)
            result.problems.push(`${name}: others can read the password's ` +
                `hash: chmod o= ${name}`);
        return result;
    } catch (error) {
        if (path === null && error.code === 'ENOENT')
            return parseConfig('', name);
        return { config: null, problems: [`${name}: ${error.message}`] };
    }
}

/** Whether only this host can connect to the address. */
export function isLoopback(host) {
    return host === 'localhost' || host === '::1' || host.startsWith('127.');
}
