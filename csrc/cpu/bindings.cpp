// Python bindings of the CPU kernels. Arrays come as addresses; lengen_fast/ops/cpu.py and attention_cpu.py see to
// their dtypes, strides and sizes, and fits() to the row numbers and tokens in them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <tuple>

#include "attention.hpp"
#include "embedding.hpp"

namespace py = pybind11;

namespace lengen::cpu {
namespace {

using Address = uintptr_t;
using Operand = std::tuple<Address, int64_t, int64_t>;  // address, stride of a row, stride of a head

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

template <class T>
Rows<T> rows(const Operand& operand) {
  return {pointer<T>(std::get<0>(operand)), std::get<1>(operand), std::get<2>(operand)};
}

Beyond beyond_named(const std::string& name) {
  return name == "zero" ? Beyond::zero : name == "line" ? Beyond::line : Beyond::last;
}

void bind_attention(py::module_& module) {
  py::class_<Problem>(module, "Attention", "One attention problem: what is read, in fp32, and its shape.")
      .def(py::init([](int64_t sequences, int64_t heads, int64_t key_heads, int64_t width, Address bounds, Address query_rows,
                       int64_t queries, const Operand& q, const Operand& k, const Operand& v, float scale) {
        Problem problem{sequences, heads,   key_heads,            width,                pointer<const int64_t>(bounds),
                        pointer<const int64_t>(query_rows), queries, rows<const float>(q), rows<const float>(k),
                        rows<const float>(v), scale};
        return problem;
      }))
      .def("fits", &Problem::fits)
      .def("set_window", [](Problem& problem, int64_t window) { problem.window = window; })
      .def("set_key_bias", [](Problem& problem, const Operand& operand) { problem.key_bias = rows<const float>(operand); })
      .def("set_logit_scale", [](Problem& problem, const Operand& operand) { problem.logit_scale = rows<const float>(operand); })
      .def("set_bias",
           [](Problem& problem, Address table, int64_t models, int64_t width, const std::string& beyond, Address slope) {
             problem.bias = {pointer<const float>(table), pointer<const float>(slope), models, width, beyond_named(beyond)};
           })
      .def("forward",
           [](const Problem& problem, const Operand& out, Address softmax, int threads) {
             const py::gil_scoped_release release;
             attention_forward(problem, {rows<float>(out), pointer<Softmax>(softmax)}, threads);
           })
      .def("backward", [](const Problem& problem, const Operand& grad_out, const Operand& out, Address softmax, const Operand& q,
                          const Operand& k, const Operand& v, Address table, const Operand& key_bias, const Operand& logit_scale,
                          int threads) {
        const py::gil_scoped_release release;
        attention_backward(problem,
                           {rows<const float>(grad_out), rows<const float>(out), pointer<const Softmax>(softmax), rows<float>(q),
                            rows<float>(k), rows<float>(v), pointer<float>(table), rows<float>(key_bias), rows<float>(logit_scale)},
                           threads);
      });
}

Embedding embedding(int64_t sequences, int64_t rows, int64_t width, Address tokens, Address bounds, Address offsets, int64_t vocabulary,
                    int64_t context) {
  return {sequences, rows, width, pointer<const int64_t>(tokens), pointer<const int64_t>(bounds), pointer<const int64_t>(offsets),
          vocabulary, context};
}

void bind_embedding(py::module_& module) {
  py::class_<Embedding>(module, "Embedding", "Packed tokens and their positions, to look up in tables.")
      .def(py::init(&embedding))
      .def("forward",
           [](const Embedding& problem, Address token_table, Address position_table, Address out, int threads) {
             const py::gil_scoped_release release;
             return embed(problem, pointer<const float>(token_table), pointer<const float>(position_table), pointer<float>(out),
                          threads);
           })
      .def("backward",
           [](const Embedding& problem, Address gradient, Address token_table, Address position_table, int threads) {
             const py::gil_scoped_release release;
             return embed_backward(problem, pointer<const float>(gradient), pointer<float>(token_table), pointer<float>(position_table),
                            threads);
           });
}

// Elements that one thread takes at a time.
constexpr int64_t elements_at_once = 1 << 14;

template <class Work>
void by_pieces(int64_t count, int threads, Work&& work) {
  const py::gil_scoped_release release;
  const int64_t pieces = (count + elements_at_once - 1) / elements_at_once;
  share_among_threads(pieces, threads, [&](int64_t i) {
    const int64_t begin = i * elements_at_once;
    work(begin, std::min(count, begin + elements_at_once) - begin);
  });
}

}  // namespace
}  // namespace lengen::cpu

PYBIND11_MODULE(_cpu, module) {
  using namespace lengen::cpu;
  module.doc() = "Kernels for a CPU; see lengen_fast.ops for their use.";
  module.def("vector_code", [] { return use_fma(); }, "Whether the AVX2 path with FMA is in use.");
  module.def("use_vector_code", [](bool wanted) { fma_enabled.store(wanted && fma_supported()); },
             "Turns the AVX2 path on (where there is one) or off.");
  bind_attention(module);
  bind_embedding(module);
  module.def("gelu", [](Address x, Address y, int64_t count, int threads) {
    by_pieces(count, threads,
              [&](int64_t begin, int64_t size) { gelu(pointer<const float>(x) + begin, pointer<float>(y) + begin, size); });
  });
  module.def("gelu_backward", [](Address gradient, Address x, Address out, int64_t count, int threads) {
    by_pieces(count, threads, [&](int64_t begin, int64_t size) {
      gelu_gradient(pointer<const float>(gradient) + begin, pointer<const float>(x) + begin, pointer<float>(out) + begin, size);
    });
  });
}
