// Python bindings of the data engine, and nothing else.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "languages/registry.hpp"
#include "registry.hpp"
#include "stream.hpp"

namespace py = pybind11;

namespace lengen {
namespace {

constexpr uint64_t no_end = std::numeric_limits<uint64_t>::max();

// A batch of fewer tokens is drawn before another thread could take the interpreter over.
constexpr int64_t few_tokens = 1 << 14;

constexpr int64_t most_threads = 1024;

// A task with its distribution, lengths, seed and context fixed: rows by (stream, row).
class Sampler {
 public:
  Sampler(const std::string& task, const std::string& distribution, int64_t symbols, int64_t low, int64_t high, uint64_t seed,
          int64_t context, const Parameters& parameters)
      : rows_(make_sampler(task, distribution, symbols, parameters)), lengths_(reachable_lengths(*rows_, low, high)), seed_(seed),
        context_(context) {
    check_context(*rows_, lengths_, context);
  }

  // Strings of a language: lengths in increasing order, and the thresholds of Lengths or nothing.
  Sampler(std::unique_ptr<RowSampler> rows, std::vector<int32_t> listed, std::vector<uint64_t> thresholds, uint64_t seed,
          int64_t context)
      : rows_(std::move(rows)), listed_(std::move(listed)), thresholds_(std::move(thresholds)), starts_(starts_of(thresholds_)),
        lengths_{listed_[0], 1, static_cast<int64_t>(listed_.size()), listed_.data(),
                 thresholds_.empty() ? nullptr : thresholds_.data(), starts_.data()},
        seed_(seed), context_(context) {
    check_context(*rows_, lengths_, context);
  }

  // Whether a batch takes so little time that waiting for it holds nobody up.
  bool is_quick(int64_t rows) const { return rows <= few_tokens / rows_->largest_shape(lengths_.last()).tokens; }

  Batch sample(int64_t rows, uint64_t stream, int64_t first_row, int threads) const {
    check_rows(rows, first_row);
    return sample_rows(*rows_, {seed_, stream, first_row, rows, lengths_, context_, threads});
  }

 private:
  std::unique_ptr<RowSampler> rows_;
  std::vector<int32_t> listed_;
  std::vector<uint64_t> thresholds_;
  std::vector<int32_t> starts_;
  Lengths lengths_;
  uint64_t seed_;
  int64_t context_;
};

class SamplerSteps final : public StepSource {
 public:
  SamplerSteps(std::shared_ptr<const Sampler> sampler, int64_t rows, bool trim)
      : sampler_(std::move(sampler)), rows_(rows), trim_(trim) {}

  Batch draw(uint64_t step) const override {
    Batch batch = sampler_->sample(rows_, step, 0, 1);
    if (trim_) batch.trim();
    return batch;
  }

 private:
  std::shared_ptr<const Sampler> sampler_;
  int64_t rows_;
  bool trim_;
};

// A stream of this process. Threads do not survive a fork: in a child the copy is left alone, for its locks may be held for ever.
class ProcessStream {
 public:
  explicit ProcessStream(std::unique_ptr<Stream> stream) : stream_(std::move(stream)), process_(getpid()) {}
  ProcessStream(const ProcessStream&) = delete;
  ProcessStream& operator=(const ProcessStream&) = delete;
  ~ProcessStream() {
    if (!is_here()) stream_.release();
  }

  Stream& get() const {
    if (!is_here()) throw std::runtime_error("the stream belongs to the process that made it; make a new one after a fork");
    return *stream_;
  }
  void close() const {
    if (is_here()) stream_->close();
  }

 private:
  bool is_here() const { return getpid() == process_; }

  std::unique_ptr<Stream> stream_;
  pid_t process_;
};

// What threads can gain that share nothing: batches that nobody wants, to measure by.
void sample_apart(const Sampler& sampler, int64_t rows, uint64_t stream, int threads) {
  const int64_t each = rows / threads;
  in_parallel(threads, threads, [&](int64_t i) { sampler.sample(each, stream, each * i, 1); });
}

std::shared_ptr<Batch> share(Batch&& batch) { return std::make_shared<Batch>(std::move(batch)); }

// Arguments of Sampler.sample, by position or name. It is called for every batch, and for short ones the general way of taking
// arguments apart would take as long as drawing a third of the batch.
struct SampleArguments {
  int64_t rows = 0, first_row = 0, threads = 1;
  uint64_t stream = 0;

  SampleArguments(PyObject* const* values, Py_ssize_t positional, PyObject* names) {
    static PyObject* const known[] = {PyUnicode_InternFromString("rows"), PyUnicode_InternFromString("stream"),
                                      PyUnicode_InternFromString("first_row"), PyUnicode_InternFromString("threads")};
    const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
    if (positional > 4) throw py::type_error("sample() takes at most 4 arguments");
    for (Py_ssize_t i = 0; i < positional; ++i) take(i, values[i]);
    for (Py_ssize_t i = 0; i < named; ++i) {
      Py_ssize_t which = 0;
      while (which < 4 && PyTuple_GET_ITEM(names, i) != known[which]) ++which;
      if (which == 4) which = find(known, PyTuple_GET_ITEM(names, i));
      take(which, values[positional + i]);
    }
    if (!(taken_ & 1)) throw py::type_error("sample() misses the argument 'rows'");
  }

 private:
  void take(Py_ssize_t which, PyObject* value) {
    if (taken_ >> which & 1) throw py::type_error("sample() got an argument twice");
    taken_ |= 1u << which;
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(value));
    if (!number) throw py::error_already_set();
    if (which == 1) {
      stream = PyLong_AsUnsignedLongLong(number.ptr());
    } else {
      (which == 0 ? rows : which == 2 ? first_row : threads) = PyLong_AsLongLong(number.ptr());
    }
    if (PyErr_Occurred() == nullptr) return;
    PyErr_Clear();
    throw py::type_error("sample() got an integer out of range");
  }

  static Py_ssize_t find(PyObject* const* known, PyObject* name) {
    for (Py_ssize_t which = 0; which < 4; ++which) {
      if (PyUnicode_Compare(known[which], name) == 0) return which;
    }
    throw py::type_error("sample() got an unexpected argument " + py::repr(name).cast<std::string>());
  }

  unsigned taken_ = 0;
};

PyObject* sample(PyObject* self, PyObject* const* values, Py_ssize_t positional, PyObject* names) {
  try {
    const auto& sampler = py::handle(self).cast<const Sampler&>();
    const SampleArguments asked(values, positional, names);
    const int threads = static_cast<int>(std::clamp<int64_t>(asked.threads, 1, most_threads));
    if (threads == 1 && sampler.is_quick(asked.rows)) {
      return py::cast(share(sampler.sample(asked.rows, asked.stream, asked.first_row, 1))).release().ptr();
    }
    std::shared_ptr<Batch> batch;
    {
      const py::gil_scoped_release release;
      batch = share(sampler.sample(asked.rows, asked.stream, asked.first_row, threads));
    }
    return py::cast(std::move(batch)).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc& error) {
    PyErr_SetString(PyExc_MemoryError, error.what());
  } catch (const std::logic_error& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyMethodDef sample_method{"sample", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&sample)),
                          METH_FASTCALL | METH_KEYWORDS,
                          "sample($self, /, rows, stream=0, first_row=0, threads=1)\n--\n\n"
                          "Rows first_row .. first_row + rows - 1 of a stream."};

// Waits with the GIL released, in slices, so that Ctrl-C gets through.
std::shared_ptr<Batch> next_batch(const ProcessStream& stream) {
  std::optional<Batch> batch;
  Stream& waited_for = stream.get();
  Stream::State state = waited_for.next(std::chrono::milliseconds(0), batch);
  for (;;) {
    if (state == Stream::State::waiting) {
      const py::gil_scoped_release release;
      state = waited_for.next(std::chrono::milliseconds(50), batch);
    }
    if (state == Stream::State::ready) return share(std::move(*batch));
    if (state == Stream::State::ended) throw py::stop_iteration();
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

// A NumPy array over memory of the batch, which it keeps alive.
template <class T, T* (Batch::*pointer)() const, int64_t (*count)(const Batch&)>
py::array_t<T> view(const std::shared_ptr<Batch>& batch) {
  return py::array_t<T>(count(*batch), ((*batch).*pointer)(), py::cast(batch));
}

int64_t tokens_in(const Batch& batch) { return batch.token_count(); }
int64_t scored_in(const Batch& batch) { return batch.scored_count(); }
int64_t rows_in(const Batch& batch) { return batch.rows(); }
int64_t bounds_in(const Batch& batch) { return batch.rows() + 1; }

std::array<uint32_t, 4> ars_block(std::array<uint32_t, 4> counter, std::array<uint64_t, 2> key) {
  ars::block(counter.data(), key.data());
  return counter;
}

std::vector<uint32_t> words_of_row(uint64_t seed, uint64_t stream, uint32_t row, int64_t first, int64_t count) {
  Words words({seed, stream, row});
  for (int64_t i = 0; i < first; ++i) words.next();
  std::vector<uint32_t> found(static_cast<size_t>(count));
  words.fill(found.data(), count);
  return found;
}

std::vector<uint32_t> integers_below(uint64_t seed, uint32_t bound, int64_t count) {
  Words words({seed, 0, 0});
  std::vector<uint32_t> found(static_cast<size_t>(count));
  for (uint32_t& each : found) each = words.below(bound);
  return found;
}

// As if the first placement block of row 0, stream 0 held `draw` twice.
std::pair<uint64_t, uint64_t> settled(uint64_t seed, uint64_t draw, uint64_t bound) {
  const RowKey key{seed, 0, 0};
  return {settle(draw, bound, key, &PlacementBlock::length_draw), settle(draw, bound, key, &PlacementBlock::offset_draw)};
}

std::vector<int64_t> shuffle_indices(uint64_t seed, int64_t count, int64_t bound) {
  Words words({seed, 0, 0});
  std::vector<int64_t> found;
  draw_shuffle_indices(count, bound, words, [&found](int64_t, int64_t index) { found.push_back(index); });
  found.resize(static_cast<size_t>(count));
  return found;
}

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <class T>
std::vector<T> values(const Array<T>& array) {
  return {array.data(), array.data() + array.size()};
}

// transitions [S, A] int32, accepting, live and labels [S] uint8.
Automaton automaton_of(const Array<int32_t>& transitions, const Array<uint8_t>& accepting, const Array<uint8_t>& live,
                       const Array<uint8_t>& labels) {
  if (transitions.ndim() != 2) throw std::invalid_argument("transitions must have two dimensions");
  return {transitions.shape(1), values(transitions), values(accepting), values(live), values(labels)};
}

// start [C], next_states [situations, A] int32, changes [situations, A, C] and labels [situations + 1] uint8.
CounterMachine counter_machine_of(const Array<int64_t>& start, const Array<int32_t>& next_states, const Array<int64_t>& changes,
                                  const Array<uint8_t>& labels) {
  if (next_states.ndim() != 2) throw std::invalid_argument("next_states must have two dimensions");
  return {next_states.shape(1), start.size(), values(start), values(next_states), values(changes), values(labels)};
}

// The lengths and chances of a sampler, and what its rows are framed with.
struct LanguageRequest {
  std::vector<int32_t> lengths;
  std::vector<uint64_t> thresholds;
  LanguageFrame frame;
  uint64_t seed;
  int64_t context;

  std::shared_ptr<Sampler> sampler(std::unique_ptr<RowSampler> rows) {
    return std::make_shared<Sampler>(std::move(rows), std::move(lengths), std::move(thresholds), seed, context);
  }
};

LanguageRequest language_request(const Array<int32_t>& lengths, const Array<uint64_t>& thresholds, int64_t bos, int64_t inside,
                                 uint64_t seed, int64_t context) {
  check_listed(values(lengths), values(thresholds));
  if (bos < 1 || bos > 255) throw std::invalid_argument("there may be 255 symbols and labels at most");
  return {values(lengths), values(thresholds), {bos, inside, lengths.at(lengths.size() - 1)}, seed, context};
}

}  // namespace
}  // namespace lengen

PYBIND11_MODULE(_engine, module) {
  using namespace lengen;
  module.doc() = "Counter-based generation of packed batches; see lengen_fast.tasks and lengen_fast.data for the public side.";

  py::class_<Batch, std::shared_ptr<Batch>>(module, "Batch", "Packed rows; the arrays are views of memory the batch owns.")
      .def_property_readonly("tokens", &view<int32_t, &Batch::tokens, tokens_in>, "[N] int32")
      .def_property_readonly("cu_seqlens", &view<int32_t, &Batch::cu_seqlens, bounds_in>, "[B+1] int32")
      .def_property_readonly("offsets", &view<int64_t, &Batch::offsets, rows_in>, "[B] int64")
      .def_property_readonly("scored", &view<int32_t, &Batch::scored, scored_in>, "[P] int32, indices into tokens")
      .def_property_readonly("targets", &view<int64_t, &Batch::targets, scored_in>, "[P] int64")
      .def_property_readonly("longest", [](const Batch& batch) { return batch.largest_row().tokens; },
                             "tokens of the longest row")
      .def_property_readonly("most_scored", [](const Batch& batch) { return batch.largest_row().scored; },
                             "scored positions of the row that has most");

  py::class_<Sampler, std::shared_ptr<Sampler>> sampler(module, "Sampler", "Rows of one task by (stream, row).");
  sampler.def(py::init<const std::string&, const std::string&, int64_t, int64_t, int64_t, uint64_t, int64_t, const Parameters&>(),
              py::arg("task"), py::arg("distribution"), py::arg("symbols"), py::arg("low"), py::arg("high"), py::arg("seed"),
              py::arg("context") = 0, py::arg("parameters") = Parameters{});
  auto* sampler_type = reinterpret_cast<PyTypeObject*>(sampler.ptr());
  sampler.attr("sample") = py::reinterpret_steal<py::object>(PyDescr_NewMethod(sampler_type, &sample_method));

  py::class_<Automaton>(module, "Automaton", "A complete automaton, which of its states are live, and the label of each.")
      .def(py::init(&automaton_of), py::arg("transitions"), py::arg("accepting"), py::arg("live"), py::arg("labels"));
  py::class_<CounterMachine>(module, "CounterMachine", "An automaton with counters, and the label of each situation.")
      .def(py::init(&counter_machine_of), py::arg("start"), py::arg("next_states"), py::arg("changes"), py::arg("labels"));
  py::class_<Recipe>(module, "Recipe", "How strings are drawn: see csrc/languages/registry.hpp for the kinds and their numbers.")
      .def(py::init<std::string, std::vector<std::vector<int64_t>>, std::string>(), py::arg("kind"), py::arg("numbers"),
           py::arg("edit") = "");
  py::class_<LanguageRequest>(module, "LanguageRequest", "Lengths with their chances, tokens, seed and context.")
      .def(py::init(&language_request), py::arg("lengths"), py::arg("thresholds"), py::arg("bos"), py::arg("inside"),
           py::arg("seed"), py::arg("context") = 0);
  module.def(
      "language_sampler",
      [](const Automaton& automaton, const Automaton& walked, const Recipe& recipe, LanguageRequest request) {
        return request.sampler(make_language_sampler(automaton, walked, recipe, request.frame));
      },
      py::arg("automaton"), py::arg("walked"), py::arg("recipe"), py::arg("request"),
      "Rows of a regular language, whose strings are drawn from the automaton `walked`.");
  module.def(
      "counting_sampler",
      [](const CounterMachine& machine, const Recipe& recipe, LanguageRequest request) {
        return request.sampler(make_language_sampler(machine, recipe, request.frame));
      },
      py::arg("machine"), py::arg("recipe"), py::arg("request"), "Rows of a counting language.");

  py::class_<ProcessStream>(module, "Stream", "Batches of consecutive steps, prepared by background threads.")
      .def(py::init([](std::shared_ptr<Sampler> sampler, int64_t rows, uint64_t start, std::optional<uint64_t> stop,
                       size_t capacity, int threads, bool trim) {
             auto source = std::make_shared<SamplerSteps>(std::move(sampler), rows, trim);
             check_rows(rows, 0);
             const uint64_t end = std::max(start, stop.value_or(no_end));
             auto stream = std::make_unique<Stream>(std::move(source), start, end, std::max<size_t>(capacity, 1), threads);
             return std::make_unique<ProcessStream>(std::move(stream));
           }),
           py::arg("sampler"), py::arg("rows"), py::arg("start") = 0, py::arg("stop") = py::none(), py::arg("capacity") = 8,
           py::arg("threads") = 1, py::arg("trim") = false)
      .def("next", &next_batch, "the batch of the next step; StopIteration at the end")
      .def("close", &ProcessStream::close, py::call_guard<py::gil_scoped_release>());

  module.def("ars", &ars_block, py::arg("counter"), py::arg("key"), "One ARS 4x32-7 block.");
  module.def("sample_apart", &sample_apart, py::arg("sampler"), py::arg("rows"), py::arg("stream"), py::arg("threads"),
             py::call_guard<py::gil_scoped_release>(),
             "As `sample`, but each thread draws a batch of its own share of the rows, and all are dropped.");
  module.def("words", &words_of_row, py::arg("seed"), py::arg("stream"), py::arg("row"), py::arg("first"), py::arg("count"),
             "Words first .. first + count - 1 of a row.");
  module.def("below", &integers_below, py::arg("seed"), py::arg("bound"), py::arg("count"), "Uniform integers in 0..bound-1.");
  module.def("settle", &settled, py::arg("seed"), py::arg("draw"), py::arg("bound"),
             "Length and offset below `bound` if `draw` is drawn first, and what follows it if it is rejected.");
  module.def("shuffle_indices", &shuffle_indices, py::arg("seed"), py::arg("count"), py::arg("bound"),
             "For i in 0..count-1, a uniform integer in 0..bound-i-1.");
  py::enum_<Path>(module, "Path", "For which processors the code in use was compiled.")
      .value("plain", Path::plain)
      .value("avx2", Path::avx2);
  module.def("path", [] { return path_in_use.load(); }, "The path in use.");
  module.def("use_path", [](Path wanted) { path_in_use.store(std::min(wanted, best_path())); }, py::arg("wanted"),
             "Changes the path; one that the processor lacks is the best that it has.");
}
