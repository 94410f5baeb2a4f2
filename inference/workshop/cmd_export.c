/* cmd_export.c - `nilm-model export`: a model's network as an ONNX file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inference/workshop/cli.h"
#include "inference/workshop/onnx.h"
#include "inference/workshop/workshop.h"

static int export_file(const char *path, const char *out, int json)
{
    struct model *m = NULL;
    char why[512] = "";
    void *data = NULL;
    size_t size = 0;
    int rc = model_decode_file(path, &m, why, sizeof(why));

    if (!rc)
        rc = onnx_export(m, &data, &size);
    model_free(m);
    if (rc)
        return cli_fail(cli_code(rc), "export: %s: %s", path, why[0] ? why : strerror(-rc));
    rc = cli_write_file(out, data, size);
    free(data);
    if (rc)
        return cli_fail(cli_code(rc), "export: %s: %s", out, strerror(-rc));
    if (json) {
        cJSON *j = cJSON_CreateObject();
        cJSON_AddStringToObject(j, "onnx", out);
        cJSON_AddNumberToObject(j, "size_bytes", (double)size);
        return cli_print_json(j);
    }
    printf("%s: %zu bytes\n", out, size);
    return CLI_DONE;
}

int workshop_export(int argc, char **argv)
{
    const char *model = NULL, *out = NULL;
    int json = 0;
    struct cli_option options[] = {
        {"model", CLI_STRING, &model, "FILE", "model file, FP32 or INT8", 0, 0, NULL, 1, 0},
        {"out", CLI_STRING, &out, "FILE", "the ONNX file to write", 0, 0, NULL, 1, 0},
        {"json", CLI_FLAG, &json, NULL, "report as one JSON object", 0, 0, NULL, 0, 0},
        {0}};
    struct cli_command command = {
        .name = "export",
        .usage = "--model FILE --out FILE",
        .summary = "Writes a model's network as an ONNX file (opset 13; INT8 as QDQ): input "
                   "\"features\" [batch][inputs][window], output \"probabilities\". Labels, period "
                   "and watts are not part of it: note the model's features.",
        .options = options};
    int code = cli_parse(&command, argc, argv);
    return code != CLI_RUN ? code : export_file(model, out, json);
}
