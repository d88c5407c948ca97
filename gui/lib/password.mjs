// SPDX-License-Identifier: BSD-2-Clause
//
// password - hash one, and check what a browser sends by HTTP's Basic scheme.
//
// A check by scrypt is expensive on purpose, and a page asks every second: so
// what was right is remembered, as a keyed digest, and a wrong one is checked
// beside few others, after which the rest is turned away.  There are few
// guesses a second, for all who guess together: a wrong one keeps its place for
// a while.  Who has been right is not hindered by them.

import { createHmac, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

const COST = 16384;
const KEY_SIZE = 32;
const CHECKS_MAX = 2;
const WRONG_MS = 500;
const HEADER_MAX = 1024;
const HASH = /^scrypt:([A-Za-z0-9_-]{22}):([A-Za-z0-9_-]{43})$/;

function derive(password, salt) {
    return new Promise((resolve, reject) => {
        scrypt(password, salt, KEY_SIZE, { N: COST, r: 8, p: 1 },
            (error, key) => error ? reject(error) : resolve(key));
    });
}

/** Whether this is what hashPassword returns. */
export function isPasswordHash(text) {
    return HASH.test(text);
}

/** What the configuration has in the place of the password. */
export async function hashPassword(password) {
    const salt = randomBytes(16);
    const key = await derive(password, salt);
    return `scrypt:${salt.toString('base64url')}:${key.toString('base64url')}`;
}

/** The password of "Authorization: Basic ...", any user's; or null. */
export function passwordOf(header) {
    if (typeof header !== 'string' || header.length > HEADER_MAX)
        return null;
    const match = /^Basic ([A-Za-z0-9+/]+={0,2})$/i.exec(header);
    if (!match)
        return null;
    const pair = Buffer.from(match[1], 'base64').toString('utf8');
    const colon = pair.indexOf(':');
    return colon < 0 ? null : pair.slice(colon + 1);
}

export class PasswordCheck {
    #salt;
    #key;
    #secret = randomBytes(32);
    #right = null; // digest of the password that was right
    #checks = 0;
    #wrongMs;

    constructor(hash, { wrongMs = WRONG_MS } = {}) {
        this.#wrongMs = wrongMs;
        const [, salt, key] = HASH.exec(hash);
        this.#salt = Buffer.from(salt, 'base64url');
        this.#key = Buffer.from(key, 'base64url');
    }

    /** Returns 'right', 'wrong', or 'busy': too many are being checked. */
    async check(header) {
        const password = passwordOf(header);
        if (password === null)
            return 'wrong';
        const digest =
            createHmac('sha256', this.#secret).update(password).digest();
        if (this.#right && timingSafeEqual(digest, this.#right))
            return 'right';
        if (this.#checks >= CHECKS_MAX)
            return 'busy';
        this.#checks++;
        try {
            const key = await derive(password, this.#salt);
            if (timingSafeEqual(key, this.#key)) {
                this.#right = digest;
                return 'right';
            }
        } finally {
            if (this.#right === digest)
                this.#checks--;
            else
                setTimeout(() => { this.#checks--; }, this.#wrongMs).unref();
        }
        return 'wrong';
    }
}
