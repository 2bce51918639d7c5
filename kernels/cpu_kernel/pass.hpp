// One pass over memory each way, forward or backward, for one activation and one storage type.
//
// Statistics and sums are taken over blocks and combined in a fixed order: results do not depend on the
// number of threads.
#pragma once

#include "channel_proxies.hpp"
#include "rows.hpp"

#include <algorithm>
#include <type_traits>
#include <vector>

namespace {

using namespace proxy_norm;

constexpr std::int64_t kSecondLevel = 384 * 1024; // bytes of it that may be counted on

// One pass over a block, relative to a mean of some of its elements: that keeps the digits of a mean that is far from
// zero and of a variance that is small beside it.
template <typename T> Moments<double> blockMoments(const T *x, std::int64_t n) {
  using F = Arithmetic<T>;
  const F shift = sampledMean(n, x);
  const ShiftedSums<F> sums = shiftedSums(n, shift, x);
  const double mean = double(sums.sum) / double(n);
  return {double(n), double(shift) + mean, std::max(double(sums.square) - mean * double(sums.sum), 0.0)};
}

// Whether the backward pass keeps d phi'(z) in dx between its two steps: where phi' is dear and dx can hold it
// without rounding.
template <Activation A, typename T>
constexpr bool kKeepsSlopes = A != Activation::Relu && std::is_same<T, Arithmetic<T>>::value;

// What an element's row holds forward, and how out follows from u = x - shift. With z = u slope + offset,
// out = (phi(z) - m) s. For ReLU scale and shift pass through the maximum (s > 0), so that Proxy Norm costs no
// operation more than affine and ReLU: max(u slope s + (offset - m) s, -m s).
enum ForwardNumber { kSlope, kOffset, kFloor, kForwardRelu, kTaken = kFloor, kScale, kForwardSilu };
template <Activation A> constexpr int kForwardNumbers = A == Activation::Relu ? kForwardRelu : kForwardSilu;

template <Activation A, typename F>
inline Vector<F> forwardOf(const RowNumbers<F, kForwardNumbers<A>> &row, Vector<F> u) {
  const Vector<F> z = u * row.of[kSlope] + row.of[kOffset];
  if constexpr (A == Activation::Relu)
    return Lanes<Vector<F>>::larger(z, row.of[kFloor]);
  else
    return (Phi<A>::value(z) - row.of[kTaken]) * row.of[kScale];
}

// And backward: slope and offset of z, and what takes d phi'(z) to dx. d is the gradient of out.
enum BackwardNumber { kDirect = 2, kBackwardNumbers };

// d phi'(z), and d phi(z) for SiLU; for ReLU that is z times the former.
template <Activation A, typename V> inline V slopeTimes(V z, V d, V &dPhi) {
  if constexpr (A == Activation::Relu) {
    return Lanes<V>::where(z, d);
  } else {
    V phi, slope;
    Phi<A>::valueAndSlope(z, phi, slope);
    dPhi = d * phi;
    return d * slope;
  }
}

// What the backward pass sums over the elements of a row: d, d phi'(z), d phi'(z) u, and d phi(z) for SiLU (see
// slopeTimes).
enum Sum { kD, kDSlope, kDSlopeU, kSumsRelu, kDPhi = kSumsRelu, kSumsSilu };
template <Activation A> constexpr int kSums = A == Activation::Relu ? kSumsRelu : kSumsSilu;

template <Activation A, typename F>
inline RowNumbers<F, kSums<A>> termsOf(const RowNumbers<F, kBackwardNumbers> &row, Vector<F> u, Vector<F> d) {
  Vector<F> dPhi{};
  const Vector<F> dSlope = slopeTimes<A>(Vector<F>(u * row.of[kSlope] + row.of[kOffset]), d, dPhi);
  if constexpr (A == Activation::Relu)
    return {{d, dSlope, dSlope * u}};
  else
    return {{d, dSlope, dSlope * u, dPhi}};
}

// One forward or backward pass for one activation and one storage type.
template <Activation A, typename T> class Pass {
  using F = Arithmetic<T>;
  using V = Vector<F>;
  // Neighbouring channels of one instance, all of one group.
  struct Stretch {
    std::int64_t instance, channel, channels, group; // group = instance * groups + the group
  };

public:
  // workspace: of each group of each instance its mean, its inverse deviation and what rounding took from the mean
  // (far from zero, that is much beside a deviation), then the proxy's rows
  Pass(const Problem &p, const Tensors &t, const Threads &threads)
      : p(p), t(t), threads(threads), beta(as<F>(t.beta)), gamma(as<F>(t.gamma)),
        groups(p.groups > 0 ? p.groups : 1), perGroup(p.channels / groups),
        statistics(static_cast<F *>(t.workspace)), proxy(statistics + kStatistics * p.instances * groups) {}

  void forward() const {
    const T *x = as<T>(t.x);
    T *y = static_cast<T *>(t.out);
    const Proxy<A, F> proxies(p, t, proxy);
    overStretches(
        1, [&](std::int64_t begin, std::int64_t end) { proxies.put(begin, end); },
        [&](const Stretch &stretch) { groupStatistics(stretch, x); },
        [&](const Stretch &stretch, const Stretch &rows) { forwardRows(stretch, rows, x, y); },
        [](std::int64_t, std::int64_t) {});
  }

  void backward() const {
    const T *x = as<T>(t.x), *d = as<T>(t.d);
    T *dx = static_cast<T *>(t.out);
    std::vector<double> sums((together() ? 1 : p.instances) * kSums<A> * p.channels);
    std::vector<GroupGradient> means(p.instances * groups);
    overStretches(
        2, [](std::int64_t, std::int64_t) {},
        [&](const Stretch &stretch) {
          double *const into = sums.data() + (together() ? 0 : stretch.instance) * kSums<A> * p.channels;
          means[stretch.group] = groupGradient(stretch, x, d, dx, into);
        },
        [&](const Stretch &stretch, const Stretch &rows) {
          backwardRows(stretch, rows, means[stretch.group], x, d, dx);
        },
        [&](std::int64_t begin, std::int64_t end) { parameterGradients(begin, end, sums.data()); });
  }

private:
  // Whether a thread takes its channels of all instances, and so does everything that there is to do for them.
  bool together() const {
    return threads.count <= 1 || groups % threads.count == 0 || groups >= 8 * threads.count;
  }

  // before(channels), then for each group's stretch first(stretch) and, while it is still in the cache, rows(stretch,
  // rows of it), then after(channels).
  template <typename Before, typename First, typename Rows, typename After>
  void overStretches(int inputs, const Before &before, const First &first, const Rows &rows, const After &after) const {
    const std::int64_t cost = inputs * p.spatial * perGroup, count = p.instances * groups;
    const auto stretchOf = [this](std::int64_t group) {
      return Stretch{group / groups, group % groups * perGroup, perGroup, group};
    };
    const auto both = [&](const Stretch &stretch) {
      first(stretch);
      rows(stretch, stretch);
    };
    if (together()) {
      parallelFor(groups, threads, cost * p.instances, [&](std::int64_t begin, std::int64_t end) {
        before(begin * perGroup, end * perGroup);
        for (std::int64_t n = 0; n < p.instances; ++n)
          for (std::int64_t g = n * groups + begin; g < n * groups + end; ++g)
            both(stretchOf(g));
        after(begin * perGroup, end * perGroup);
      });
      return;
    }
    parallelFor(p.channels, threads, 64, before);
    if (count >= 2 * threads.count) {
      parallelFor(count, threads, cost, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t g = begin; g < end; ++g)
          both(stretchOf(g));
      });
    } else {
      parallelFor(count, threads, cost, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t g = begin; g < end; ++g)
          first(stretchOf(g));
      });
      parallelFor(count * perGroup, threads, cost / perGroup, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end;) {
          const Stretch whole = stretchOf(row / perGroup);
          const std::int64_t offset = row % perGroup, channels = std::min(perGroup - offset, end - row);
          rows(whole, Stretch{whole.instance, whole.channel + offset, channels, whole.group});
          row += channels;
        }
      });
    }
    parallelFor(p.channels, threads, 8 * p.instances, after);
  }

  // Calls body(first channel, how many, elements before them) for the rows of a stretch, kRows at a time.
  template <typename Body> void inParts(const Stretch &rows, const Body &body) const {
    for (std::int64_t done = 0; done < rows.channels; done += kRows)
      body(rows.channel + done, std::min(kRows, rows.channels - done),
           (rows.instance * p.channels + rows.channel + done) * p.spatial);
  }

  // AMD's processors are slower where the next group's output is fetched forward, or its inputs backward; Intel's are
  // faster.
  static bool fetchesLittle() {
#if defined(__x86_64__)
    return __builtin_cpu_is("amd");
#else
    return false;
#endif
  }

  // How many bytes behind a row the next group has its own, where there is one and a second-level cache holds both.
  std::int64_t ahead(const Stretch &stretch, int inputs, std::int64_t elementBytes) const {
    const std::int64_t bytes = perGroup * p.spatial * elementBytes;
    return stretch.group + 1 < p.instances * groups && bytes * (2 * inputs + 1) <= kSecondLevel ? bytes : 0;
  }

  enum { kCenter, kDeviation, kRest, kStatistics };
  F statistic(const Stretch &stretch, int which) const { return statistics[kStatistics * stretch.group + which]; }

  void setStatistics(const Stretch &stretch, double mean, double inverse) const {
    F *const to = statistics + kStatistics * stretch.group;
    to[kCenter] = F(mean);
    to[kDeviation] = F(inverse);
    to[kRest] = F(mean - double(F(mean)));
  }

  void groupStatistics(const Stretch &stretch, const T *x) const {
    if (p.groups <= 0) {
      setStatistics(stretch, 0, 1);
      return;
    }
    const std::int64_t n = perGroup * p.spatial;
    Moments<double> total;
    for (std::int64_t at = 0; at < n; at += kBlock)
      total = combined(total, blockMoments(x + stretch.group * n + at, std::min(kBlock, n - at)));
    setStatistics(stretch, total.mean, 1.0 / std::sqrt(total.deviations / double(n) + p.normEps));
  }

  // z = u slope + offset, where u is relative to the rounded mean: what rounding took returns in the offset.
  template <int numbers>
  void putArguments(const Stretch &stretch, std::int64_t channel, std::int64_t count,
                    RowTable<F, numbers> &table) const {
    const F inverse = statistic(stretch, kDeviation), rest = statistic(stretch, kRest);
    for (std::int64_t i = 0; i < count; ++i) {
      table.of[kSlope][i] = gamma[channel + i] * inverse;
      table.of[kOffset][i] = beta[channel + i] - rest * table.of[kSlope][i];
    }
  }

  void forwardRows(const Stretch &stretch, const Stretch &rows, const T *x, T *y) const {
    inParts(rows, [&](std::int64_t channel, std::int64_t count, std::int64_t at) {
      RowTable<F, kForwardNumbers<A>> table;
      putArguments(stretch, channel, count, table);
      const F *const m = proxy + kMean * p.channels + channel, *const s = proxy + kInverse * p.channels + channel;
      for (std::int64_t i = 0; i < count; ++i)
        if constexpr (A == Activation::Relu) {
          table.of[kSlope][i] *= s[i];
          table.of[kOffset][i] = (table.of[kOffset][i] - m[i]) * s[i];
          table.of[kFloor][i] = -m[i] * s[i];
        } else {
          table.of[kTaken][i] = m[i];
          table.of[kScale][i] = s[i];
        }
      const auto body = [shift = statistic(stretch, kCenter)](const auto &row, V x) {
        return forwardOf<A, F>(row, x - shift);
      };
      mapRowsFetching(table, count, p.spatial, ahead(stretch, 1, sizeof(T)), !fetchesLittle(), body, y + at, x + at);
    });
  }

  RowTable<F, kBackwardNumbers> backwardTable(const Stretch &stretch, std::int64_t channel, std::int64_t count) const {
    RowTable<F, kBackwardNumbers> table;
    putArguments(stretch, channel, count, table);
    const F *const s = proxy + kInverse * p.channels + channel;
    for (std::int64_t i = 0; i < count; ++i)
      table.of[kDirect][i] = table.of[kSlope][i] * s[i];
    return table;
  }

  // With h = d phi'(z) s gamma the gradient of the normalised value, yhat = u r, and < > the group's mean:
  // dx = r (h - <h> - yhat <h yhat>) = d phi'(z) direct + u byU + constant.
  struct GroupGradient {
    F byU, constant;
  };

  // The first step of the backward pass: sums over a group's rows, which are added to those of their channels
  // [kSums, channels], each d phi'(z) u relative to the true mean and times r.
  GroupGradient groupGradient(const Stretch &stretch, const T *x, const T *d, T *dx, double *channelSums) const {
    const double r = statistic(stretch, kDeviation), rest = statistic(stretch, kRest);
    double h = 0, hY = 0;
    inParts(stretch, [&](std::int64_t channel, std::int64_t count, std::int64_t at) {
      double sums[kRows][4];
      sumsOfRows(stretch, channel, count, x + at, d + at, dx + at, sums);
      double *const to = channelSums + channel;
      const F *const s = proxy + kInverse * p.channels + channel;
      for (std::int64_t i = 0; i < count; ++i) {
        const double dSlope = sums[i][kDSlope], dSlopeY = r * (sums[i][kDSlopeU] - rest * dSlope);
        const double factor = double(gamma[channel + i]) * double(s[i]);
        h += factor * dSlope;
        hY += factor * dSlopeY;
        to[kD * p.channels + i] += sums[i][kD];
        to[kDSlope * p.channels + i] += dSlope;
        to[kDSlopeU * p.channels + i] += dSlopeY;
        if (A != Activation::Relu)
          to[kDPhi * p.channels + i] += sums[i][kDPhi];
      }
    });
    if (p.groups <= 0)
      return {0, 0};
    const double share = 1.0 / double(perGroup * p.spatial), byU = -r * r * share * hY;
    return {F(byU), F(-r * share * h - rest * byU)}; // u is relative to the rounded mean
  }

  void sumsOfRows(const Stretch &stretch, std::int64_t channel, std::int64_t count, const T *x, const T *d, T *dx,
                  double (&sums)[kRows][4]) const {
    for (std::int64_t i = 0; i < count; ++i)
      for (double &sum : sums[i])
        sum = 0;
    const auto table = backwardTable(stretch, channel, count);
    const F shift = statistic(stretch, kCenter);
    const auto terms = [=](const auto &row, std::int64_t i) {
      if constexpr (kKeepsSlopes<A, T>) {
        constexpr std::int64_t further = 16 * kLineBytes; // the processor's own prefetching ends with each page
        fetchAhead(x + i, further);
        fetchAhead(d + i, further);
        fetchToWrite(dx + i, further);
      } else {
        fetchToWrite(dx + i, 0); // it is written soon, and memory has nothing to do while x and d come from the caches
      }
      const auto out = termsOf<A, F>(row, load(x + i) - shift, load(d + i));
      if constexpr (kKeepsSlopes<A, T>)
        store(dx + i, out.of[kDSlope]);
      return out;
    };
    const auto part = [=](const auto &row, std::int64_t i, std::int64_t elements) {
      const auto out = termsOf<A, F>(row, loadFirst(x + i, elements) - shift, loadFirst(d + i, elements));
      if constexpr (kKeepsSlopes<A, T>)
        storeFirst(dx + i, out.of[kDSlope], elements);
      return out;
    };
    sumRows<kSums<A>>(table, count, p.spatial, terms, part, [&sums](std::int64_t row, const auto &state) {
      V each[4] = {};
      for (int k = 0; k < kSums<A>; ++k)
        each[k] = state.of[k];
      double totals[4];
      laneTotals<F>(each, totals);
      for (int k = 0; k < 4; ++k)
        sums[row][k] += totals[k];
    });
  }

  void backwardRows(const Stretch &stretch, const Stretch &rows, const GroupGradient &means, const T *x, const T *d,
                    T *dx) const {
    const F shift = statistic(stretch, kCenter);
    inParts(rows, [&](std::int64_t channel, std::int64_t count, std::int64_t at) {
      const auto table = backwardTable(stretch, channel, count);
      if constexpr (kKeepsSlopes<A, T>) {
        const auto body = [shift, means](const auto &row, V kept, V x) {
          return V(kept * row.of[kDirect] + ((x - shift) * means.byU + means.constant));
        };
        const auto untouched = [](std::int64_t) {};
        mapRows(table, count, p.spatial, untouched, body, dx + at, static_cast<const T *>(dx + at), x + at);
      } else {
        const auto body = [shift, means](const auto &row, V x, V d) {
          const V u = x - shift;
          V dPhi{};
          const V dSlope = slopeTimes<A>(V(u * row.of[kSlope] + row.of[kOffset]), d, dPhi);
          return V(dSlope * row.of[kDirect] + (u * means.byU + means.constant));
        };
        const std::int64_t next = fetchesLittle() ? 0 : ahead(stretch, 2, sizeof(T));
        mapRowsFetching(table, count, p.spatial, next, false, body, dx + at, x + at, d + at);
      }
    });
  }

  void parameterGradients(std::int64_t begin, std::int64_t end, double *sums) const {
    const std::int64_t channels = p.channels;
    if (!together())
      for (std::int64_t n = 1; n < p.instances; ++n)
        for (int k = 0; k < kSums<A>; ++k)
          for (std::int64_t c = begin; c < end; ++c)
            sums[k * channels + c] += sums[(n * kSums<A> + k) * channels + c];
    const F *const proxyBeta = as<F>(t.proxyBeta), *const proxyGamma = as<F>(t.proxyGamma);
    for (std::int64_t c = begin; c < end; ++c) {
      const ProxyMoments<double> moments = {
          proxy[kMean * channels + c],         0,
          proxy[kMeanByMu * channels + c],     proxy[kMeanBySigma * channels + c],
          proxy[kVarianceByMu * channels + c], proxy[kVarianceBySigma * channels + c]};
      const double s = proxy[kInverse * channels + c], d = sums[kD * channels + c],
                   dSlope = sums[kDSlope * channels + c], dSlopeY = sums[kDSlopeU * channels + c];
      const double dPhi = A == Activation::Relu ? gamma[c] * dSlopeY + beta[c] * dSlope : sums[kDPhi * channels + c];
      const ParameterGradients<double> through = proxyGradients<double>(moments, -s * d, dPhi - moments.mean * d, s,
                                                                        gamma[c], proxyBeta[c], proxyGamma[c]);
      static_cast<F *>(t.dBeta)[c] = F(s * dSlope + through.beta);
      static_cast<F *>(t.dGamma)[c] = F(s * dSlopeY + through.gamma);
      static_cast<F *>(t.dProxyBeta)[c] = F(through.proxyBeta);
      static_cast<F *>(t.dProxyGamma)[c] = F(through.proxyGamma);
    }
  }

  const Problem &p;
  const Tensors &t;
  const Threads threads;
  const F *const beta, *const gamma;
  const std::int64_t groups, perGroup;
  F *const statistics, *const proxy;
};

} // namespace
