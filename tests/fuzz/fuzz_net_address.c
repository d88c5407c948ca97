/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_net_address - any text as a numeric address.
 *
 * What is accepted is written with its port, and the part before the port is
 * read back to the same address.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/net_address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_address address, again;
    char written[NET_ADDRESS_TEXT];
    char *text = malloc(size + 1);

    if (!text)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (net_address_parse(text, 443, &address) == 0) {
        (void)net_address_format(&address, written);
        if (strlen(written) < 5 ||
            strcmp(written + strlen(written) - 4, ":443") != 0)
            abort();
        written[strlen(written) - 4] = '\0';
        if (net_address_parse(written, 443, &again) != 0 ||
            !net_address_equals(&address, &again))
            abort();
    }
    free(text);
    return 0;
}
