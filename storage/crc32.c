/* crc32.c - see crc32.h. Four bits at a time: the table is 64 bytes, and rows are short. */
#include "storage/crc32.h"

#include <string.h>

static const uint32_t table[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};

uint32_t crc32_bytes(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;

    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

uint32_t crc32_integer(uint32_t crc, int64_t value)
{
    unsigned char bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)value >> (8 * i));
    return crc32_bytes(crc, bytes, sizeof bytes);
}

uint32_t crc32_real(uint32_t crc, double value)
{
    int64_t bits;

    value += 0.0; /* minus zero becomes zero, as it may on its way through the database */
    memcpy(&bits, &value, sizeof bits);
    return crc32_integer(crc, bits);
}

uint32_t crc32_text(uint32_t crc, const char *text, size_t size)
{
    return crc32_bytes(crc32_integer(crc, (int64_t)size), text, size);
}
