#!/usr/bin/env node
// SPDX-License-Identifier: BSD-2-Clause
//
// server - the status page of s3blkdev: asks the daemon's status socket every
// second, and shows what it says over HTTP.
//
// Reads its own configuration, its own files, and the status socket; writes
// nothing.  README.md beside this file tells the API.

import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';

import { DEFAULT_PATH, isLoopback, loadConfig } from './lib/config.mjs';
import { loadFiles } from './lib/files.mjs';
import { Page } from './lib/http.mjs';
import { hashPassword } from './lib/password.mjs';
import { Watcher } from './lib/watcher.mjs';

// As those of s3blkdevd.
const EXIT = { ok: 0, failed: 1, usage: 2, config: 3 };

const USAGE = `usage: server.mjs [-c FILE] [-t]
       server.mjs --hash-password | -h

  -c FILE          the configuration, instead of
                   ${DEFAULT_PATH}
  -t               only check the configuration
  --hash-password  read a password, and print the line for the configuration
  -h               show this help
`;

function parseOptions(args) {
    const options = { path: null, mode: 'serve' };
    const modes = new Map([['-t', 'check'], ['-h', 'help'],
        ['--hash-password', 'hash']]);
    for (let i = 0; i < args.length; i++) {
        if (args[i] === '-c' && i + 1 < args.length)
            options.path = args[++i];
        else if (modes.has(args[i]))
            options.mode = modes.get(args[i]);
        else
            return null;
    }
    return options;
}

async function printHash() {
    const lines = createInterface({ input: process.stdin });
    if (process.stdin.isTTY)
        process.stderr.write('password: ');
    for await (const line of lines) {
        if (line.length === 0)
            break;
        console.log(`password ${await hashPassword(line)}`);
        return EXIT.ok;
    }
    console.error('server.mjs: there is no password on standard input');
    return EXIT.usage;
}

async function serve(config) {
    const problems = [];
    const files = loadFiles(dirname(fileURLToPath(import.meta.url)), problems);
    const watcher = new Watcher(config.status);
    const page = new Page(config, watcher, files);
    const end = async () => {
        watcher.stop();
        await page.close();
        process.exit(EXIT.ok);
    };

    for (const problem of problems)
        console.error(`warning: ${problem}`);
    for (const address of config.listen) {
        const where = `${address.host}:${address.port}`;
        if (!config.password && !isLoopback(address.host))
            console.error(`warning: ${where}: whoever can reach this address ` +
                'can see the page: there is no password');
        try {
            await page.listen(address);
        } catch (error) {
            console.error(`error: ${where}: ${error.message}`);
            return EXIT.failed;
        }
        console.error(`info: serving http://${where}/`);
    }
    process.on('SIGTERM', () => void end());
    process.on('SIGINT', () => void end());
    let last = '';
    watcher.on('update', () => {
        if (watcher.state.code !== last)
            console.error(`${watcher.isUp ? 'info' : 'warning'}: ` +
                `status: ${watcher.state.text}`);
        last = watcher.state.code;
    });
    watcher.start();
    return null;
}

async function main() {
    const options = parseOptions(process.argv.slice(2));
    if (!options) {
        process.stderr.write(USAGE);
        return EXIT.usage;
    }
    if (options.mode === 'help') {
        process.stdout.write(USAGE);
        return EXIT.ok;
    }
    if (options.mode === 'hash')
        return printHash();
    const { config, problems } = loadConfig(options.path);
    for (const problem of problems)
        console.error(problem);
    if (problems.length > 0)
        return EXIT.config;
    if (options.mode === 'check') {
        console.log(`${options.path ?? DEFAULT_PATH}: no mistakes`);
        return EXIT.ok;
    }
    return serve(config);
}

const code = await main();
if (code !== null)
    process.exit(code);
