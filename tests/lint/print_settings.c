/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Print the table of settings for the check "settings", a line each: name,
 * scope, default, what is allowed, whether a reload applies it, and help, with
 * tabs between.
 */
#include <stdio.h>

#include "config.h"

int main(void)
{
    struct config_description d;

    for (size_t i = 0; config_describe(i, &d); i++)
        printf("%s\t%s\t%s\t%s\t%s\t%s\n", d.name, d.scope, d.initial,
               d.allowed, d.is_reloaded ? "reload" : "restart", d.help);
    return 0;
}
