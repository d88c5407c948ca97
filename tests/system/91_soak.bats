#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What the soak (make soak) relies on.

load helpers

@test "the model of the soak refuses what a device can never have been" {
    python3 "$ROOT/tests/soak/test_model.py"
}
