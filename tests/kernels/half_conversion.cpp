// The storage header's conversions of half, for arrays: built with and without the processor's instructions.
#include "storage.hpp"

extern "C" void to_float(const Half *from, float *to, long n) {
  for (long i = 0; i < n; ++i)
    to[i] = toFloat(from[i]);
}

extern "C" void to_half(const float *from, Half *to, long n) {
  for (long i = 0; i < n; ++i)
    to[i] = toHalf(from[i]);
}

extern "C" void to_half_by_vectors(const float *from, Half *to, long n) {
  for (long i = 0; i < n; i += kLanes<float>)
    store(to + i, load(from + i));
}

extern "C" void to_float_by_vectors(const Half *from, float *to, long n) {
  for (long i = 0; i < n; i += kLanes<float>)
    store(to + i, load(from + i));
}
