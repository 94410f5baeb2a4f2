// onednn.cpp - oneDNN on the benchmark network: NETWORK INPUTS OUTPUTS (peer.h).
//
// A convolution with ReLU fused, or a dense layer, is one primitive and a max pool another; each
// chooses the layout of its weights and activations itself ("any"), and reorders stand where two
// differ. Activations are u8, weights s8 with a scale per output, biases s32. Everything is made
// once; a call quantizes the input, executes the primitives, and takes the softmax.
#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "peer.h"

using namespace dnnl;
using tag = memory::format_tag;
using type = memory::data_type;

namespace
{

struct step {
    primitive what;
    std::unordered_map<int, memory> arguments;
};

engine cpu(engine::kind::cpu, 0);
stream line(cpu);
std::vector<step> steps;
memory input, output;
peer_network network;

memory reordered(memory &from, const memory::desc &to)
{
    if (from.get_desc() == to)
        return from;
    memory m(to, cpu);
    reorder(from, m).execute(line, from, m);
    line.wait();
    return m;
}

// What a primitive gets while it runs; a layout that differs costs a reorder each time.
memory fed(const memory &from, const memory::desc &to)
{
    if (from.get_desc() == to)
        return from;
    memory m(to, cpu);
    steps.push_back({reorder(from, m), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, m}}});
    return m;
}

primitive_attr attributes(const peer_layer &l, bool last)
{
    primitive_attr a;
    std::vector<float> scales;
    for (int o = 0; o < l.outputs; o++)
        scales.push_back(l.in_scale * l.weight_scale[o] / (last ? 1.0f : l.out_scale));
    a.set_output_scales(1 << 1, scales);
    if (l.relu) {
        post_ops p;
        p.append_eltwise(1.0f, algorithm::eltwise_relu, 0.0f, 0.0f);
        a.set_post_ops(p);
    }
    return a;
}

// Our weights are [out][tap][in].
memory weights_of(const peer_layer &l, const memory::desc &plain, const memory::desc &wanted)
{
    memory m(plain, cpu, const_cast<int8_t *>(l.weights));
    return reordered(m, wanted);
}

memory bias_of(const peer_layer &l)
{
    memory m({{l.outputs}, type::s32, tag::a}, cpu);
    memcpy(m.get_data_handle(), l.bias, (size_t)l.outputs * 4);
    return m;
}

memory convolution(const peer_layer &l, const memory &x, int columns)
{
    int after = columns - l.taps + 1;
    memory::desc source({1, l.inputs, columns}, type::u8, tag::any);
    memory::desc weights({l.outputs, l.inputs, l.taps}, type::s8, tag::any);
    memory::desc bias({l.outputs}, type::s32, tag::a);
    memory::desc result({1, l.outputs, after}, type::u8, tag::any);
    convolution_forward::desc d(prop_kind::forward_inference, algorithm::convolution_direct, source,
                                weights, bias, result, {1}, {0}, {0});
    convolution_forward::primitive_desc pd(d, attributes(l, false), cpu);
    memory y(pd.dst_desc(), cpu);
    memory::desc plain({l.outputs, l.inputs, l.taps}, type::s8, tag::acb);
    steps.push_back({convolution_forward(pd),
                     {{DNNL_ARG_SRC, fed(x, pd.src_desc())},
                      {DNNL_ARG_WEIGHTS, weights_of(l, plain, pd.weights_desc())},
                      {DNNL_ARG_BIAS, bias_of(l)},
                      {DNNL_ARG_DST, y}}});
    return y;
}

memory max_pool(const memory &x, int channels, int columns)
{
    memory::desc result({1, channels, columns / 2}, type::u8, tag::any);
    pooling_forward::desc d(prop_kind::forward_inference, algorithm::pooling_max, x.get_desc(),
                            result, {2}, {2}, {0}, {0});
    pooling_forward::primitive_desc pd(d, cpu);
    memory y(pd.dst_desc(), cpu);
    steps.push_back({pooling_forward(pd), {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, y}}});
    return y;
}

memory dense(const peer_layer &l, const memory &x, bool last)
{
    int inputs = l.inputs * l.taps;
    memory::desc source({1, inputs}, type::u8, tag::ab);
    memory::desc weights({l.outputs, inputs}, type::s8, tag::any);
    memory::desc bias({l.outputs}, type::s32, tag::a);
    memory::desc result({1, l.outputs}, last ? type::f32 : type::u8, tag::ab);
    inner_product_forward::desc d(prop_kind::forward_inference, source, weights, bias, result);
    inner_product_forward::primitive_desc pd(d, attributes(l, last), cpu);
    memory y(pd.dst_desc(), cpu);
    memory::desc plain({l.outputs, inputs}, type::s8, tag::ab);
    steps.push_back({inner_product_forward(pd),
                     {{DNNL_ARG_SRC, x},
                      {DNNL_ARG_WEIGHTS, weights_of(l, plain, pd.weights_desc())},
                      {DNNL_ARG_BIAS, bias_of(l)},
                      {DNNL_ARG_DST, y}}});
    return y;
}

void build()
{
    int columns = PEER_WINDOW;
    input = memory({{1, 1, PEER_WINDOW}, type::u8, tag::acb}, cpu);
    memory x = input;
    for (int i = 0; i < network.count; i++) {
        const peer_layer &l = network.layers[i];
        if (l.dense) {
            if (i && !network.layers[i - 1]
                          .dense) { // time-major and flat, without a copy if it is that already
                int channels = network.layers[i - 1].outputs;
                x = fed(x, memory::desc({1, channels, columns}, type::u8, tag::acb));
                x = memory({{1, channels * columns}, type::u8, tag::ab}, cpu, x.get_data_handle());
            }
            x = dense(l, x, i + 1 == network.count);
            continue;
        }
        x = convolution(l, x, columns);
        columns -= l.taps - 1;
        if (l.pool == 2) {
            x = max_pool(x, l.outputs, columns);
            columns /= 2;
        }
    }
    output = x;
}

void run(const float *x, float *probabilities)
{
    peer_quantize(&network.layers[0], x, (uint8_t *)input.get_data_handle());
    for (auto &s : steps)
        s.what.execute(line, s.arguments);
    line.wait();
    peer_softmax((const float *)output.get_data_handle(), probabilities);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 4)
        peer_fail("usage: onednn NETWORK INPUTS OUTPUTS");
    network = peer_load(argv[1]);
    try {
        build();
    } catch (const dnnl::error &e) {
        peer_fail(e.what());
    }
    return peer_serve(argv, run, NULL);
}
