/* crc32.h - CRC-32 of IEEE 802.3 (reflected polynomial 0xEDB88320), over bytes and over the columns
 * of a row. Private to storage/.
 *
 * A sum begins with 0 and is handed on from field to field. Numbers count as 8 bytes, least
 * significant first; a text as its length, then its bytes: so no two rows have the same bytes. Any
 * thread.
 */
#ifndef STORAGE_CRC32_H
#define STORAGE_CRC32_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32_bytes(uint32_t crc, const void *data, size_t size);
uint32_t crc32_integer(uint32_t crc, int64_t value);
/* The 64 bits of IEEE 754, as an integer. */
uint32_t crc32_real(uint32_t crc, double value);
uint32_t crc32_text(uint32_t crc, const char *text, size_t size);

#endif
