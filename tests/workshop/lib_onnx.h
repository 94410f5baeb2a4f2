/* lib_onnx.h - ONNX files for tests, and what becomes of them. */
#ifndef TESTS_WORKSHOP_LIB_ONNX_H
#define TESTS_WORKSHOP_LIB_ONNX_H

#include "inference/workshop/net.h"
#include "lib_protobuf.h"

/* A net with a window of 24 and three classes (net_free), and its file (free). */
struct net *lib_onnx_random_net(enum model_head head, uint32_t channels);
void *lib_onnx_export_net(const struct net *net, size_t *size);

/* A network of two channels that can be followed by hand: window 4, one input; constants "w"
 * (2,1,2), "w4" (2,1,1,2): two taps [1 2] and [3 4]; bias "b" [2 -1]. What comes first is the
 * caller's: it reads "x". end_file: a dense layer of one class with weights 1..6 in the order that
 * the file has them, and a bias of 0.5; it reads "f" and makes "y". */
void lib_onnx_begin_file(struct pb *g, const char *input_dims);
void lib_onnx_end_file(struct pb *g);

/* A whole graph in which every operator that import knows occurs, most in the way of tf2onnx. */
void lib_onnx_all_operators(struct pb *g);

/* Imports the graph and checks the first logit for x = 1 0 2 5. The convolution with its bias makes
 * 3 6 14 and 2 7 25 of it. The graph is released, as is the file of expect_refused. */
void lib_onnx_expect_logit(struct pb *graph, float expected);
void lib_onnx_expect_refused(struct pb *file, const char *text);

#endif
