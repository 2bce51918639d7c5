#pragma once

#include "opx.hpp"
