// Values that are the same for all threads: on the host, values.
#pragma once

#include "types.h"

namespace metal {

template <class T>
struct uniform {
  T value;
  uniform() = default;
  MSL_FN constexpr uniform(T value) : value(value) {}
  MSL_FN constexpr operator T() const { return value; }
};

template <class T>
MSL_FN constexpr uniform<T> make_uniform(T value) {
  return uniform<T>(value);
}

}  // namespace metal
