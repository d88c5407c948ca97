// SPDX-License-Identifier: BSD-2-Clause
//
// clock - a time that goes on evenly, and what it is since 1970.
//
// The system's clock may be set, forward or back, at any time: so all that is
// recorded has the steady time, and becomes one since 1970 when it is told.

import { performance } from 'node:perf_hooks';

// A clock that is corrected by little steps does not move what was told.
const STEP_MIN_MS = 1000;

export class Clock {
    #steady;
    #wall;
    #shiftMs = 0;

    constructor({
        steady = () => performance.timeOrigin + performance.now(),
        wall = Date.now,
    } = {}) {
        this.#steady = steady;
        this.#wall = wall;
    }

    /** Steady milliseconds. */
    now() {
        return this.#steady();
    }

    /** What is to be added to steady milliseconds, for those since 1970. */
    shiftMs() {
        const shiftMs = this.#wall() - this.#steady();
        if (Math.abs(shiftMs - this.#shiftMs) > STEP_MIN_MS)
            this.#shiftMs = shiftMs;
        return this.#shiftMs;
    }

    toWall(steadyMs) {
        return steadyMs + this.shiftMs();
    }
}
