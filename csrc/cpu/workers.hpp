// Sharing a kernel of a millisecond among the threads that PyTorch keeps.
//
// PyTorch's OpenMP threads spin for a while after each of its operations. Threads of our own would fight with them for the
// cores, so the team of the OpenMP library that is loaded already is asked; without one, threads are started for the call.
#pragma once

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <string_view>
#include <thread>
#include <vector>

namespace lengen::cpu {

// GOMP_parallel(work, argument, threads, flags) of GNU's and of Intel's library: calls work(argument) once on each thread.
using RunOnTeam = void (*)(void (*)(void*), void*, unsigned, unsigned);

inline int remember_openmp(dl_phdr_info* info, size_t, void* found) {
  const std::string_view name(info->dlpi_name == nullptr ? "" : info->dlpi_name);
  const std::string_view file = name.substr(name.rfind('/') + 1);
  if (!file.starts_with("libgomp") && !file.starts_with("libiomp") && !file.starts_with("libomp")) return 0;
  void* const library = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return 0;
  *static_cast<void**>(found) = dlsym(library, "GOMP_parallel");
  return *static_cast<void**>(found) != nullptr;
}

inline RunOnTeam openmp_of_this_process() {
  static const auto run = [] {
    void* found = nullptr;
    dl_iterate_phdr(remember_openmp, &found);
    return reinterpret_cast<RunOnTeam>(found);
  }();
  return run;
}

// Calls work(0) ... work(count-1), each once, on up to `threads` threads, in no order, and passes on the first exception.
template <class Work>
void share_among_threads(int64_t count, int threads, Work&& work) {
  const int64_t team = std::min<int64_t>(threads, count);
  if (team <= 1) {
    for (int64_t i = 0; i < count; ++i) work(i);
    return;
  }
  struct Turns {
    Work& work;
    int64_t count;
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr error{};

    static void take(void* turns) noexcept {
      auto& self = *static_cast<Turns*>(turns);
      try {
        for (int64_t i; (i = self.next.fetch_add(1, std::memory_order_relaxed)) < self.count;) self.work(i);
      } catch (...) {
        if (!self.failed.exchange(true)) self.error = std::current_exception();
      }
    }
  } turns{work, count};
  if (const RunOnTeam run = openmp_of_this_process()) {
    run(&Turns::take, &turns, static_cast<unsigned>(team), 0);
  } else {
    std::vector<std::jthread> helpers;
    for (int64_t i = 1; i < team; ++i) helpers.emplace_back(&Turns::take, &turns);
    Turns::take(&turns);
  }
  if (turns.failed) std::rethrow_exception(turns.error);
}

}  // namespace lengen::cpu
