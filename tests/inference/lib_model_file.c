/* lib_model_file.c - see lib_model_file.h. */
#include "inference/lib_model_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

uint32_t model_file_crc(const unsigned char *data, size_t size)
{
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

void model_file_seal(unsigned char *file, size_t size)
{
    uint32_t value = (uint32_t)size;

    if (size < 16)
        return;
    memcpy(file + 8, &value, 4);
    value = model_file_crc(file + 16, size - 16);
    memcpy(file + 12, &value, 4);
}

size_t model_file_section(const unsigned char *file, const char *tag, size_t *length)
{
    for (size_t i = 0; i < 7; i++) {
        const unsigned char *entry = file + 32 + 16 * i;
        uint32_t offset, bytes;

        if (memcmp(entry, tag, 4) != 0)
            continue;
        memcpy(&offset, entry + 4, 4);
        memcpy(&bytes, entry + 8, 4);
        if (length)
            *length = bytes;
        return offset;
    }
    fail_msg("no section %s", tag);
    return 0;
}

unsigned char *model_file_encode(const struct model *m, size_t *size)
{
    void *bytes;
    char why[256] = "";

    if (model_encode(m, &bytes, size, why, sizeof(why)) != 0)
        fail_msg("%s", why);
    return bytes;
}
