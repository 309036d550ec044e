// metal_stdlib for the host's compiler: what a rewritten `.metal` source includes in place of Apple's headers. Address
// spaces are erased before this is read; README.md says where else the meaning may differ from a GPU's.
#pragma once

#include "types.h"

#include "traits.h"

#include "runtime.h"

#include "vector.h"

#include "uniform.h"

#include "packed.h"

#include "array.h"

#include "matrix.h"

#include "math.h"

#include "integer.h"

#include "geometric.h"

#include "pack.h"

#include "sync.h"

#include "simd.h"

#include "simdgroup_matrix.h"

#include "atomic.h"

#include "not_simulated.h"

#include "intrinsics.h"

#ifdef MSL_DETECT
#include "detect.h"
#endif

#include "bfloat.h"
