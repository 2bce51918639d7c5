// The points that stand for the proxy's normal variable, as in ipu_train.kernels.tables.
#pragma once

#include <vector>

namespace proxy_norm {

// For ReLU: the quantiles (ascending) and the tail sums of w, w n and w n^2: [K], then three times [K + 1].
std::vector<float> reluTable(unsigned quantiles);

// For SiLU: the three rules of SmoothTable. 0 quantiles: the exact expectation.
struct Points {
  std::vector<double> points, weights;
};
std::vector<Points> siluPoints(unsigned quantiles);

} // namespace proxy_norm
