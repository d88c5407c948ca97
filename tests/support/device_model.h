/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device_model - what each sector of a device may hold, now or after a crash.
 *
 * One thread writes to the device, in groups of requests that are in flight
 * together and share no sector; the next group begins when the last has been
 * answered.  Each write's bytes tell its number and their sector, so that
 * whatever is read names the write that it is from.
 *
 * Moments are those of a recording (see fault_file.h): cut is the number of
 * entries that happened.
 *
 * Threads: any; model_begin and the checks: one.
 */
#ifndef SUPPORT_DEVICE_MODEL_H
#define SUPPORT_DEVICE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct device_model;

enum { MODEL_SECTOR = 512, MODEL_PAGE = 4096 };

enum model_kind {
    MODEL_WRITE,
    MODEL_ZERO,
    MODEL_TRIM, /* zeros in the whole pages of the range */
    MODEL_FLUSH,
};

/*
 * A new model of size bytes.  content, unless NULL, is what was durable in
 * the device when it began, as written under older models; their numbers end
 * before first_number.
 */
struct device_model *model_new(uint64_t size, const unsigned char *content,
                               uint32_t first_number);
void model_free(struct device_model *model);

/* Returns the number that the next request will have. */
uint32_t model_next_number(const struct device_model *model);

/* Requests from now on are submitted when all before are answered. */
void model_next_group(struct device_model *model);

/*
 * A request is about to be submitted, at that moment; durable: it asks to be
 * durable when it is answered.  Returns its number.
 */
uint32_t model_begin(struct device_model *model, enum model_kind kind,
                     uint64_t offset, uint64_t length, bool durable,
                     size_t moment);

/* Fill data with the bytes that write number puts at offset. */
void model_fill(uint32_t number, uint64_t offset, void *data, size_t length);

/* The request was answered, at that moment. */
void model_answered(struct device_model *model, uint32_t number, size_t moment);

/* The request got an error: of what it does any part may be there, or none. */
void model_failed(struct device_model *model, uint32_t number);

/* What happened between the moment and the check. */
enum model_crash {
    MODEL_NO_CRASH,  /* nothing: all that was answered, in order */
    MODEL_KILL,      /* of what was not answered any part may be there */
    MODEL_POWER_CUT, /* of what was not durable any prefix may be there */
};

/*
 * Check what was read of the whole device after a crash at cut.  Returns
 * whether it may be so; else the first reason is printed to report.
 */
bool model_check(const struct device_model *model, const unsigned char *content,
                 enum model_crash crash, size_t cut, FILE *report);

#endif
