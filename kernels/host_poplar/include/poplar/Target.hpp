#pragma once

#include "StringRef.hpp"
#include "Type.hpp"

namespace poplar {

enum class TargetType { IPU, IPU_MODEL, CPU };

// The second-generation IPU's figures (see the table of sources in this folder's README), with any number of
// tiles.
class Target {
public:
  static Target createIPUTarget(unsigned numIPUs, unsigned tilesPerIPU, StringRef /*systemType*/) {
    Target target;
    target.tiles_ = numIPUs * tilesPerIPU;
    return target;
  }

  TargetType getTargetType() const { return TargetType::IPU_MODEL; }
  unsigned getNumTiles() const { return tiles_; }
  unsigned getNumWorkerContexts() const { return 6; }
  unsigned getVectorWidth(const Type &type) const { return 8 / type.hostBytes(); }
  unsigned getTypeSize(const Type &type) const { return type.hostBytes(); }
  unsigned getAtomicStoreGranularity() const { return 4; }
  unsigned getBytesPerTile() const { return 638976; }
  unsigned getDataPathWidth() const { return 64; }
  unsigned getExchangeBytesPerCycle() const { return 4; }

private:
  unsigned tiles_ = 1472;
};

} // namespace poplar
