#!/usr/bin/env -S node --test --test-reporter=tap
// SPDX-License-Identifier: BSD-2-Clause
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { isLoopback, loadConfig, parseAddress, parseConfig }
    from '../../gui/lib/config.mjs';
import { PasswordCheck, hashPassword, passwordOf }
    from '../../gui/lib/password.mjs';
import { SERVER, makeDir, until } from './fake_daemon.mjs';

const basic = (text) => `Basic ${Buffer.from(text).toString('base64')}`;

test('an empty file means this host alone, and no password', () => {
    const { config, problems } = parseConfig('', 'f');
    assert.deepEqual(problems, []);
    assert.deepEqual(config.listen, [{ host: '127.0.0.1', port: 8080 }]);
    assert.equal(config.password, null);
    assert.deepEqual([...config.hostnames], ['localhost']);
});

test('all settings, with comments and blanks, are read', async () => {
    const hash = await hashPassword('secret');
    const { config, problems } = parseConfig(`
# a comment
listen 127.0.0.1:1 ; another one
  listen\t[::1]:65535
status /run/x
password ${hash}
hostname Disk.example
; the end`, 'f');
    assert.deepEqual(problems, []);
    assert.deepEqual(config.listen,
        [{ host: '127.0.0.1', port: 1 }, { host: '::1', port: 65535 }]);
    assert.equal(config.status, '/run/x');
    assert.equal(config.password, hash);
    assert(config.hostnames.has('disk.example'));
});

test('all mistakes are told, with file and line', () => {
    const { problems } = parseConfig('listen 1.2.3.4\nstatus x\npassword y\n' +
        'hostname a_b\nnonsense 1\nlisten\nstatus /a\n__proto__ 1', 'f');
    assert.deepEqual(problems.map((line) => line.split(' ')[0]),
        ['f:1:', 'f:2:', 'f:3:', 'f:4:', 'f:5:', 'f:6:', 'f:7:', 'f:8:']);
});

test('an address is an IP or localhost, and a port', () => {
    for (const bad of ['', ':80', '1.2.3.4', '1.2.3.4:0', '1.2.3.4:65536',
        '1.2.3:80', 'host:80', '::1:80', '[1.2.3.4]:80', '[::g]:80', 'a:b:80'])
        assert.equal(parseAddress(bad), null, bad);
    assert.deepEqual(parseAddress('localhost:80'), { host: 'localhost', port: 80 });
    assert(isLoopback('127.9.9.9') && isLoopback('::1'));
    assert(!isLoopback('0.0.0.0') && !isLoopback('::'));
});

test('a hash that others can read is refused, with the command that mends it',
    async (t) => {
        const path = join(makeDir(t), 'conf');
        writeFileSync(path, `password ${await hashPassword('x')}\n`);
        chmodSync(path, 0o644);
        assert.match(loadConfig(path).problems[0], /chmod o= /);
        chmodSync(path, 0o640);
        assert.deepEqual(loadConfig(path).problems, []);
        assert.equal(loadConfig(`${path}.not`).problems.length, 1);
    });

test('the right password is right, every other one wrong', async () => {
    const check = new PasswordCheck(await hashPassword('pässword:x'));
    assert.equal(await check.check(basic('any:pässword:x')), 'right');
    assert.equal(await check.check(basic(':pässword:x')), 'right');
    for (const bad of [undefined, '', 'Basic', 'Basic !', basic('pässword:x'),
        basic('any:'), basic('any:password:x'), `Bearer ${'x'.repeat(9)}`,
        basic(`any:${'x'.repeat(5000)}`)])
        await until((result) => result === 'wrong', async () => {
            const result = await check.check(bad);
            assert.notEqual(result, 'right', bad);
            return result;
        });
    assert.equal(await check.check(basic('any:pässword:x')), 'right');
    assert.equal(passwordOf(basic('nothing')), null);
});

test('few wrong passwords are checked at once', async () => {
    const check = new PasswordCheck(await hashPassword('right'));
    const results = await Promise.all(Array.from({ length: 10 },
        (_, i) => check.check(basic(`:wrong${i}`))));
    assert.equal(results.filter((result) => result === 'wrong').length, 2);
    assert.equal(results.filter((result) => result === 'busy').length, 8);
    await until((result) => result === 'right', () => check.check(basic(':right')));
});

test('a wrong one is in the way of other guesses, not of who was right', async () => {
    const hash = await hashPassword('right');
    const check = new PasswordCheck(hash, { wrongMs: 1e9 });
    assert.equal(await check.check(basic(':wrong')), 'wrong');
    assert.equal(await check.check(basic(':right')), 'right');
    assert.equal(await check.check(basic(':wrong')), 'wrong');
    assert.equal(await check.check(basic(':again')), 'busy');
    assert.equal(await check.check(basic(':right')), 'right');
    const short = new PasswordCheck(hash, { wrongMs: 1 });
    for (let i = 0; i < 4; i++)
        await until((result) => result === 'wrong', () => short.check(basic(`:${i}`)));
});

test('the program checks a file, hashes a password and tells its options', (t) => {
    const dir = makeDir(t);
    const path = join(dir, 'conf');
    const run = (args, input = '') =>
        spawnSync(process.execPath, [SERVER, ...args], { input, encoding: 'utf8' });
    const hash = run(['--hash-password'], 'secret\n');
    assert.equal(hash.status, 0);
    writeFileSync(path, hash.stdout);
    chmodSync(path, 0o600);
    assert.equal(run(['-t', '-c', path]).status, 0);
    writeFileSync(path, 'nonsense\n');
    const bad = run(['-c', path]);
    assert.equal(bad.status, 3);
    assert.match(bad.stderr, /:1: there is no setting "nonsense"/);
    assert.equal(run(['--hash-password'], '').status, 2);
    assert.equal(run(['-x']).status, 2);
    assert.match(run(['-h']).stdout, /^usage: /);
});
