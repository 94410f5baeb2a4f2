/* lib_protobuf.c - see lib_protobuf.h. Field numbers: ONNX's own. */
#include "lib_protobuf.h"

#include <stdlib.h>
#include <string.h>

static void put(struct pb *b, const void *data, size_t size)
{
    if (b->size + size > b->room) {
        b->room = 2 * (b->size + size);
        b->data = realloc(b->data, b->room);
        if (!b->data)
            abort();
    }
    if (size)
        memcpy(b->data + b->size, data, size);
    b->size += size;
}

static void put_varint(struct pb *b, uint64_t v)
{
    do {
        unsigned char byte = (unsigned char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        put(b, &byte, 1);
        v >>= 7;
    } while (v);
}

static void put_int(struct pb *b, unsigned field, int64_t v)
{
    put_varint(b, field << 3);
    put_varint(b, (uint64_t)v);
}

static void put_bytes(struct pb *b, unsigned field, const void *data, size_t size)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, size);
    put(b, data, size);
}

static void put_text(struct pb *b, unsigned field, const char *text)
{
    put_bytes(b, field, text, strlen(text));
}

/* A message as a field; it is released. */
static void put_message(struct pb *b, unsigned field, struct pb *m)
{
    put_bytes(b, field, m->data, m->size);
    free(m->data);
    *m = (struct pb){0};
}

static size_t put_list(struct pb *b, unsigned field, const char *list)
{
    size_t product = 1;
    char *end;
    for (; *list; list = *end ? end + 1 : end) {
        long long v = strtoll(list, &end, 10);
        if (end == list)
            abort();
        put_int(b, field, v);
        product *= (size_t)v;
    }
    return product;
}

void pb_onnx_input(struct pb *graph, const char *name, const char *dims)
{
    struct pb shape = {0}, tensor = {0}, type = {0}, value = {0};
    char *end;
    for (const char *p = dims; *p; p = *end ? end + 1 : end) {
        struct pb dim = {0};
        put_int(&dim, 1, strtoll(p, &end, 10));
        put_message(&shape, 1, &dim);
    }
    put_int(&tensor, 1, 1);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_text(&value, 1, name);
    put_message(&value, 2, &type);
    put_message(graph, 11, &value);
}

void pb_onnx_output(struct pb *graph, const char *name)
{
    struct pb value = {0};
    put_text(&value, 1, name);
    put_message(graph, 12, &value);
}

void pb_onnx_tensor(struct pb *graph, const char *name, const char *dims, const float *values)
{
    struct pb t = {0};
    size_t count = put_list(&t, 1, dims);
    put_int(&t, 2, 1);
    put_text(&t, 8, name);
    put_bytes(&t, 9, values, count * sizeof(float));
    put_message(graph, 5, &t);
}

void pb_onnx_integers(struct pb *graph, const char *name, const int64_t *values, size_t count)
{
    struct pb t = {0};
    put_int(&t, 1, (int64_t)count);
    put_int(&t, 2, 7);
    for (size_t i = 0; i < count; i++)
        put_int(&t, 7, values[i]);
    put_text(&t, 8, name);
    put_message(graph, 5, &t);
}

void pb_onnx_narrow_integers(struct pb *graph, const char *name, const int32_t *values,
                             size_t count)
{
    struct pb t = {0};
    put_int(&t, 1, (int64_t)count);
    put_int(&t, 2, 6);
    put_text(&t, 8, name);
    put_bytes(&t, 9, values, count * sizeof(*values));
    put_message(graph, 5, &t);
}

void pb_onnx_odd_tensor(struct pb *graph, const char *name, const char *dims, size_t bytes,
                        int external)
{
    static const unsigned char zeros[64];
    struct pb t = {0};
    if (bytes > sizeof(zeros))
        abort();
    (void)put_list(&t, 1, dims);
    put_int(&t, 2, 1);
    put_text(&t, 8, name);
    put_bytes(&t, 9, zeros, bytes);
    if (external)
        put_int(&t, 14, 1);
    put_message(graph, 5, &t);
}

void pb_onnx_foreign_node(struct pb *graph, const char *domain, const char *op, const char *input,
                          const char *output)
{
    struct pb n = {0};
    put_text(&n, 1, input);
    put_text(&n, 2, output);
    put_text(&n, 4, op);
    put_text(&n, 7, domain);
    put_message(graph, 1, &n);
}

static void put_attribute(struct pb *node, const char *text, size_t length)
{
    struct pb a = {0};
    char copy[64];
    if (length >= sizeof(copy))
        abort();
    memcpy(copy, text, length);
    copy[length] = '\0';
    char *sign = strpbrk(copy, "=:~");
    if (!sign)
        abort();
    const char kind = *sign;
    *sign = '\0';
    put_text(&a, 1, copy);
    if (kind == '~')
        put_text(&a, 4, sign + 1);
    else
        (void)put_list(&a, kind == '=' ? 8 : 3, sign + 1);
    put_int(&a, 20, kind == '~' ? 3 : kind == '=' ? 7 : 2);
    put_message(node, 5, &a);
}

void pb_onnx_node(struct pb *graph, const char *op, const char *name, const char *inputs,
                  const char *output, const char *attributes)
{
    struct pb n = {0};
    for (const char *p = inputs; *p;) {
        size_t length = strcspn(p, ",");
        put_bytes(&n, 1, p, length);
        p += length;
        p += *p == ',';
    }
    put_text(&n, 2, output);
    put_text(&n, 3, name);
    put_text(&n, 4, op);
    for (const char *p = attributes ? attributes : ""; *p;) {
        size_t length = strcspn(p, ";");
        put_attribute(&n, p, length);
        p += length;
        p += *p == ';';
    }
    put_message(graph, 1, &n);
}

struct pb pb_onnx_model(struct pb *graph, int opset)
{
    struct pb file = {0}, set = {0};
    put_int(&file, 1, 7);
    put_message(&file, 7, graph);
    put_int(&set, 2, opset);
    put_message(&file, 8, &set);
    return file;
}
