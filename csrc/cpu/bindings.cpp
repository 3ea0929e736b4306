// Python bindings of the CPU kernels. Arrays come as addresses; lengen_fast/ops/cpu.py and attention_cpu.py see to
// their dtypes, strides and sizes, and fits() to the row numbers and tokens in them.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <tuple>

#include "adam.hpp"
#include "attention.hpp"
#include "embedding.hpp"
#include "residual.hpp"

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

Embedding embedding(int64_t sequences, int64_t rows, int64_t width, Address narrow_tokens, Address wide_tokens, Address bounds,
                    Address offsets, int64_t vocabulary, int64_t context) {
  return {sequences, rows, width, pointer<const int32_t>(narrow_tokens), pointer<const int64_t>(wide_tokens),
          pointer<const int64_t>(bounds), pointer<const int64_t>(offsets), vocabulary, context};
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

void bind_adam(py::module_& module) {
  using Tensor = std::tuple<Address, Address, Address, int64_t, bool>;  // values, moments, count, whether they decay
  py::class_<Adam>(module, "Adam", "The values of a model and their moments, to be updated by AdamW.")
      .def(py::init([](const std::vector<Tensor>& tensors) {
        std::vector<Moments> moments;
        for (const auto& [values, mean, square, count, decays] : tensors) {
          moments.push_back({pointer<float>(values), pointer<float>(mean), pointer<float>(square), count, decays});
        }
        return Adam(std::move(moments));
      }))
      .def("step", [](const Adam& adam, const std::vector<Address>& gradients, int64_t number, double rate, double decay, double clip,
                      bool clear, int threads) {
        std::vector<float*> addresses;
        for (const Address address : gradients) addresses.push_back(pointer<float>(address));
        const py::gil_scoped_release release;
        adam.step(addresses, number, rate, decay, clip, clear, threads);
      });
}

void bind_residual(py::module_& module) {
  using Read = const float;
  module.def("biased_gelu", [](Address x, Address bias, Address y, int64_t rows, int64_t columns, int threads) {
    const py::gil_scoped_release release;
    biased_gelu_forward(pointer<Read>(x), pointer<Read>(bias), pointer<float>(y), rows, columns, threads);
  });
  module.def("biased_gelu_backward", [](Address gradient, Address x, Address bias, Address bias_gradient, int64_t rows,
                                        int64_t columns, int threads) {
    const py::gil_scoped_release release;
    biased_gelu_backward(pointer<float>(gradient), pointer<Read>(x), pointer<Read>(bias), pointer<float>(bias_gradient), rows,
                         columns, threads);
  });
  module.def("add_norm", [](int64_t rows, int64_t width, Address stream, Address update, Address bias, Address weight, Address shift,
                            float epsilon, Address sum, Address normalized, Address statistics, int threads) {
    const py::gil_scoped_release release;
    add_norm_forward({rows, width, pointer<Read>(stream), pointer<Read>(update), pointer<Read>(bias), pointer<Read>(weight),
                      pointer<Read>(shift), epsilon, pointer<float>(sum), pointer<float>(normalized),
                      pointer<RowStatistics>(statistics)},
                     threads);
  });
  module.def("add_norm_backward", [](int64_t rows, int64_t width, Address of_sum, Address of_normalized, Address sum, Address weight,
                                     Address statistics, Address gradient, Address column_sums, int threads) {
    const py::gil_scoped_release release;
    add_norm_backward({rows, width, pointer<Read>(of_sum), pointer<Read>(of_normalized), pointer<Read>(sum), pointer<Read>(weight),
                       pointer<const RowStatistics>(statistics), pointer<float>(gradient)},
                      pointer<float>(column_sums), threads);
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
  py::enum_<Path>(module, "Path", "For which processors the loops in use were compiled.")
      .value("plain", Path::plain)
      .value("fma", Path::fma)
      .value("wide", Path::wide);
  module.def("path", [] { return path_now(); }, "The loops in use: plain code, AVX2 with FMA, or AVX-512 (wide).");
  module.def("use_path", [](Path wanted) { path_in_use.store(std::min(wanted, best_path())); },
             "Sets the loops to use, at most the best of this processor.");
  bind_attention(module);
  bind_embedding(module);
  bind_adam(module);
  bind_residual(module);
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
