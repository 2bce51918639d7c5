// A loop shared by threads: those of the OpenMP runtime PyTorch already uses, where the caller found its entry
// (a second pool would fight with the first, whose threads wait for work by spinning), else fresh ones.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

// GOMP_parallel of libgomp's ABI, which libomp and libiomp5 offer too: runs function(data) on every thread.
using ParallelRegion = void (*)(void (*function)(void *), void *data, unsigned threads, unsigned flags);

struct Threads {
  int count;
  ParallelRegion region; // may be null
};

// Calls body(begin, end) on contiguous parts of [0, count). `cost` is the elements one index stands for.
template <typename Body>
void parallelFor(std::int64_t count, const Threads &threads, std::int64_t cost, const Body &body) {
  const std::int64_t worthwhile = 16384; // elements a thread should have, to be worth its wake-up
  const std::int64_t byWork = count * std::max<std::int64_t>(cost, 1) / worthwhile;
  struct Work {
    const Body &body;
    std::int64_t count, parts;
    std::atomic<std::int64_t> next;
    static void run(void *data) { // parts are claimed, so that fewer threads than parts do them all too
      Work &work = *static_cast<Work *>(data);
      for (std::int64_t i = work.next++; i < work.parts; i = work.next++)
        work.body(work.count * i / work.parts, work.count * (i + 1) / work.parts);
    }
  } work{body, count, std::min({std::int64_t(threads.count), byWork, count}), {0}};
  if (work.parts <= 1) {
    body(std::int64_t(0), count);
  } else if (threads.region != nullptr) {
    threads.region(Work::run, &work, unsigned(work.parts), 0);
  } else {
    std::vector<std::thread> others;
    others.reserve(work.parts - 1);
    try {
      for (std::int64_t i = 1; i < work.parts; ++i)
        others.emplace_back(Work::run, &work);
    } catch (const std::system_error &) { // no more threads to be had: fewer do the work
    }
    Work::run(&work);
    for (auto &thread : others)
      thread.join();
  }
}
